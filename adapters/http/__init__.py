"""The HTTP edge: runs, streams, hooks and webhooks over ASGI, in any web framework."""
