"""The server adapter."""
