"""Tells a provider that was set up from the API's own placeholders."""


def is_real(provider: object) -> bool:
    """Return whether a provider is more than the API's own placeholder."""
    module = type(provider).__module__
    return not module.startswith(("opentelemetry.trace", "opentelemetry.metrics"))
