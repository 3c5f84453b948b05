"""Durable agents, written against the face of offbook alone."""

if __name__ != "offbook.agent":
    raise ImportError(f"import offbook.agent, not {__name__}")

from .agent import Agent
from .budget import Budget, Price
from .chat import ChatOptions, ChatState, Said
from .conversation import Conversation, Turn
from .errors import McpServerFailed, ModelError, OutputInvalid, TurnFailed
from .handing import handoff
from .human import Answer, Human, Question, ask_human
from .mcp import McpTools
from .messages import (
    File,
    Message,
    ModelRequest,
    ModelResponse,
    Reasoning,
    Settings,
    Text,
    ToolCall,
    ToolResult,
    ToolSpec,
    Usage,
)
from .plan import AgentResult, AgentStep, Callbacks, Plan, ToolFinished
from .ready import sleep_tool
from .tools import Tool, ToolContext, tool
from .toolset import Found, Toolset
from .trim import trim

__all__ = [
    "Agent",
    "AgentResult",
    "AgentStep",
    "Answer",
    "Budget",
    "Callbacks",
    "ChatOptions",
    "ChatState",
    "Conversation",
    "File",
    "Found",
    "Human",
    "McpServerFailed",
    "McpTools",
    "Message",
    "ModelError",
    "ModelRequest",
    "ModelResponse",
    "OutputInvalid",
    "Plan",
    "Price",
    "Question",
    "Reasoning",
    "Said",
    "Settings",
    "Text",
    "Tool",
    "ToolCall",
    "ToolContext",
    "ToolFinished",
    "ToolResult",
    "ToolSpec",
    "Toolset",
    "Turn",
    "TurnFailed",
    "Usage",
    "ask_human",
    "handoff",
    "sleep_tool",
    "tool",
    "trim",
]
