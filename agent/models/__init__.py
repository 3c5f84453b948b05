"""Language models by their vendors' wires, and one that follows a script."""

from .anthropic import AnthropicMessages
from .base import (
    Checkpoint,
    Completed,
    Model,
    ModelEvent,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
)
from .choosing import model, model_from_environment
from .openai import OpenAIChat
from .responses import OpenAIResponses
from .scripted import Scripted, call

__all__ = [
    "AnthropicMessages",
    "Checkpoint",
    "Completed",
    "Model",
    "ModelEvent",
    "OpenAIChat",
    "OpenAIResponses",
    "ReasoningDelta",
    "Scripted",
    "TextDelta",
    "ToolCallDelta",
    "call",
    "model",
    "model_from_environment",
]
