"""What runs in the processes of each system, from `.venv-peers`."""
