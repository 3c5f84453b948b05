"""What all wires need of a conversation: its texts, its files, its tool results."""

from __future__ import annotations

from base64 import b64encode

from ..messages import File, Message, ModelRequest, Text, ToolResult
from .failures import Source
from .reading import Json, compact


def instructions(request: ModelRequest) -> tuple[str, tuple[Message, ...]]:
    """Return what the system says at the beginning, and the messages after it."""
    messages = request.messages
    count = 0
    while count < len(messages) and messages[count].role == "system":
        count += 1
    return "\n\n".join(filter(None, (m.text for m in messages[:count]))), messages[count:]


def result_text(result: ToolResult) -> str:
    """Return a tool's result as text: a text as it is, other values as JSON."""
    return result.content if isinstance(result.content, str) else compact(result.content)


def results(message: Message) -> tuple[ToolResult, ...]:
    """Return the tool results of a message."""
    return tuple(part for part in message.parts if isinstance(part, ToolResult))


def seen(message: Message) -> tuple[Text | File, ...]:
    """Return what a person shows in a message; nothing that is empty."""
    shown = (part for part in message.parts if isinstance(part, Text | File))
    return tuple(part for part in shown if isinstance(part, File) or part.text)


def encoded(file: File) -> str:
    """Return a file's bytes as base64 text."""
    return b64encode(file.data or b"").decode()


def data_url(file: File) -> str:
    """Return the address of a file, or an address that holds its bytes."""
    if file.url is not None:
        return file.url
    return f"data:{file.media_type};base64,{encoded(file)}"


def name_of(file: File) -> str:
    """Return a file's name, or one that tells its kind."""
    return file.name or f"file.{file.media_type.rpartition('/')[2] or 'bin'}"


def plain_text(file: File) -> str | None:
    """Return the words of a file of text whose bytes are here, or None."""
    if file.data is None or not file.media_type.startswith("text/"):
        return None
    return file.data.decode("utf-8", "replace")


def no_place(source: Source, file: File) -> Exception:
    """Return the error of a file for which the wire has no place."""
    how = "by address" if file.data is None else "by its bytes"
    message = f"this API takes no {file.media_type} {how}"
    return source.fatal(message, "unsupported-file")


def without_none(body: Json) -> Json:
    """Return what is given of a body."""
    return {key: value for key, value in body.items() if value is not None}
