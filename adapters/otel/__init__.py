"""The otel adapter."""
