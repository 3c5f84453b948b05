"""A vendor of OpenAI's Responses that goes on with its answers alone."""

import asyncio
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from support.vendor import Asked, sse

WORDS = ["One ", "two ", "three ", "four"]


def said_by(answer: str) -> list[dict[str, Any]]:
    """Return all events of an answer; their places in the list are their numbers."""
    response = {"id": answer, "model": "gpt-5", "status": "in_progress"}
    item: dict[str, Any] = {"type": "message", "id": "msg_1", "role": "assistant"}
    content = [{"type": "output_text", "text": "".join(WORDS)}]
    whole = item | {"content": content}
    usage = {"input_tokens": 3, "output_tokens": 4}
    ended = {"status": "completed", "usage": usage, "output": [whole]}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": response},
        {"type": "response.in_progress", "response": response},
        {"type": "response.output_item.added", "output_index": 0, "item": item | {"content": []}},
        *(
            {
                "type": "response.output_text.delta",
                "output_index": 0,
                "content_index": 0,
                "item_id": "msg_1",
                "delta": word,
            }
            for word in WORDS
        ),
        {
            "type": "response.output_item.done",
            "output_index": 0,
            "item": item | {"content": content},
        },
        {"type": "response.completed", "response": response | ended},
    ]
    return [event | {"sequence_number": number} for number, event in enumerate(events)]


@dataclass
class Responses:
    """A vendor that goes on with its answers alone. `cut_after` events it breaks a stream off."""

    cut_after: list[int] = field(default_factory=list[int])
    holds: bool = False
    status: str = "in_progress"
    begun: list[str] = field(default_factory=list[str])
    cancelled: list[str] = field(default_factory=list[str])
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    _ids: Any = field(default_factory=lambda: count(1))

    async def __call__(self, asked: Asked) -> None:
        path, _, query = asked.path.partition("?")
        if asked.method == "POST" and path == "/responses":
            assert (asked.body["background"], asked.body["store"]) == (True, True)
            self.begun.append(f"resp_{next(self._ids)}")
            await self._tell(asked, self.begun[-1], 0)
            return
        answer = path.split("/")[2]
        if path.endswith("/cancel"):
            self.cancelled.append(answer)
            self.status = "cancelled"
            await asked.json({"id": answer, "object": "response", "status": "cancelled"})
        elif answer not in self.begun:
            await asked.json({"error": {"message": "no such response"}}, status=404)
        elif query:
            fields = dict(part.split("=") for part in query.split("&"))
            assert fields["stream"] == "true"
            await self._tell(asked, answer, int(fields["starting_after"]) + 1)
        else:
            await asked.json({"id": answer, "object": "response", "status": self.status})

    async def _tell(self, asked: Asked, answer: str, start: int) -> None:
        end = self.cut_after.pop(0) if self.cut_after else None
        asked.begin()
        await asked.send(sse(*said_by(answer)[start:end]))
        if end is None:
            await asked.end()
        elif self.holds:
            await asked.hold()
            self.gone.set()
        else:
            asked.cut()
