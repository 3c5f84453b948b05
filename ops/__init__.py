"""The command line and what operators need."""

if __name__ != "offbook.ops":
    raise ImportError(f"import offbook.ops, not {__name__}")
