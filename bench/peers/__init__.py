"""offbook beside other systems of its kind: `make bench-peers`."""
