"""The handle of a conversation: for those who speak with an agent, from outside of its run."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from offbook import Client, HookNotFound, Reset, Run, RunNotFound, Stream

from .agent import Agent
from .chat import TURNS, ChatState, Said, chat_token, turn_stream
from .errors import TurnFailed
from .messages import File

_LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Turn:
    """One answer of a conversation: its number, and the run in which it was given."""

    number: int
    run: Run[Any]

    @property
    def stream(self) -> Stream[dict[str, Any]]:
        """Its UI parts; it ends with the turn."""
        return self.run.stream(turn_stream(self.number))

    async def text(self) -> str:
        """Wait for the end of the turn, and return the words of its last answer.

        Raises:
            TurnFailed: it ended with an error, as of a model that refuses. Of a turn that was
                stopped, the words are those until then.
        """
        words: list[tuple[int, str]] = []
        async for chunk in self.stream.chunks():
            if isinstance(chunk, Reset):
                words = [one for one in words if one[0] not in chunk.indices]
            elif chunk.value["type"] == "error":
                raise TurnFailed(self.number, chunk.value["errorText"])
            elif chunk.value["type"] == "start-step":
                words.clear()
            elif chunk.value["type"] == "text-delta":
                words.append((chunk.index, chunk.value["delta"]))
        return "".join(word for _, word in words)


class Conversation:
    """A conversation with an agent, by an id of its own. Making a handle does no I/O."""

    def __init__(self, client: Client, agent: Agent[Any], id: str) -> None:  # noqa: A002
        self.id = id
        self._client = client
        self._agent = agent
        self._token = chat_token(id)

    def __repr__(self) -> str:
        return f"<Conversation {self.id} with {self._agent.name}>"

    async def send(self, text: str, *files: File, id: str | None = None) -> Turn:  # noqa: A002
        """Say something, and return the turn that answers it, once that has begun.

        The first message begins the conversation. With an `id`, it can be sent again.

        Raises:
            HookNotFound: the conversation has ended.
        """
        said = Said(text, id or uuid.uuid4().hex, files)
        before = await self._run()
        await self._client.start(
            self._agent.chat(),
            ChatState(self.id),
            id=self.id,
            attributes={"conversation": self.id},
            on_conflict="attach",
            resume=(self._token, said),
            resume_id=said.id,
        )
        return await self._turn_of(said.id, before)

    async def stop(self) -> None:
        """End the turn that runs, if one does; what was said of it stays said.

        Raises:
            HookNotFound: there is no such conversation.
        """
        await self._client.resume(self._token, Said(kind="stop"))

    async def end(self) -> None:
        """End the conversation, and the turn that runs.

        Raises:
            HookNotFound: there is no such conversation.
        """
        await self._client.resume(self._token, Said(kind="end"))

    async def state(self) -> ChatState:
        """Wait for the end of the conversation, and return all of it."""
        return await self._client.run(self.id, self._agent.chat()).result()

    async def turn(self, number: int) -> Turn:
        """Return a turn that has been, or runs, by its number from 1."""
        async for note in _notes(await self._run()):
            runs = [run for first, run in note["runs"] if first <= number]
            return Turn(number, self._client.run(runs[-1] if runs else self.id))
        return Turn(number, self._client.run(self.id))

    async def _run(self) -> Run[Any]:
        """Return the run that the conversation is in now."""
        try:
            found = await self._client.hook(self._token)
        except HookNotFound:
            return self._client.run(self.id)
        return self._client.run(found.run)

    async def _turn_of(self, message: str, run: Run[Any]) -> Turn:
        while True:
            async for note in _notes(run):
                if note.get("message") == message:
                    return Turn(note["turn"], run)
            following = (await run.view()).continued_as
            if following is None:
                raise HookNotFound
            run = self._client.run(following)
            await _there(run)


async def _there(run: Run[Any]) -> None:
    """Wait for a run that another one goes on as: it is there a little later, or after a crash."""
    while True:
        try:
            await run.status()
        except RunNotFound:
            await asyncio.sleep(_LOOK_SECONDS)
        else:
            return


async def _notes(run: Run[Any]) -> AsyncGenerator[dict[str, Any]]:
    async for note in run.stream(TURNS):
        if not isinstance(note, Reset):
            yield note
