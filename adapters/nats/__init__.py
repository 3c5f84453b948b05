"""Runs on NATS JetStream: every subject name, header and JetStream call is in here."""

from .backend import NatsBackend
from .options import ConnectOptions

__all__ = ["ConnectOptions", "NatsBackend"]
