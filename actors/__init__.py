"""The runtime: workflows, steps, runs, history, replay. Knows no NATS and no telemetry library."""

if __name__ != "offbook.actors":
    raise ImportError(f"import offbook.actors, not {__name__}")
