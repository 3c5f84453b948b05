"""Durable agents, written against the face of offbook alone."""

if __name__ != "offbook.agent":
    raise ImportError(f"import offbook.agent, not {__name__}")
