"""The in-memory world: a full peer of the NATS adapter, with virtual time and seeded faults."""

from .backend import MemoryBackend
from .noise import Latency, Noise
from .seam import Action, all_points
from .time import Deadlock, VirtualClock, VirtualLoop, run
from .world import World

__all__ = [
    "Action",
    "Deadlock",
    "Latency",
    "MemoryBackend",
    "Noise",
    "VirtualClock",
    "VirtualLoop",
    "World",
    "all_points",
    "run",
]
