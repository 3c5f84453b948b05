"""The log adapter."""
