"""The edges: NATS JetStream, the in-memory world, the embedded server, telemetry."""

if __name__ != "offbook.adapters":
    raise ImportError(f"import offbook.adapters, not {__name__}")
