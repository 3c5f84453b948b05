"""Language models by their vendors' wires."""

from .base import (
    Checkpoint,
    Completed,
    Model,
    ModelEvent,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
)

__all__ = [
    "Checkpoint",
    "Completed",
    "Model",
    "ModelEvent",
    "ReasoningDelta",
    "TextDelta",
    "ToolCallDelta",
]
