"""Very many runs that wait, on the embedded server: `python -m bench.scale --runs 100000`."""
