"""Benchmarks: what offbook costs beside a bare fenced publish in the same run."""
