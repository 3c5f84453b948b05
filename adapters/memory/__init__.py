"""The memory adapter."""
