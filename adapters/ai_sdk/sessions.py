"""Sessions: one run for a whole chat, to whose hook each message is sent.

What the run is told of a message says also to which of its streams the answer belongs, so each
turn has a stream of its own. The run's stream `turns` lists them, for who comes back.
"""

import secrets
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, cast

from offbook.actors.client import Client
from offbook.actors.define import Workflow
from offbook.actors.errors import HookNotFound, RunConflict, RunExpired, RunNotFound
from offbook.actors.options import UNSET, Duration
from offbook.actors.run import Run
from offbook.actors.stream import Reset, Stream

from .reading import ENDED
from .turns import RIVALS, ChatRequest, Runs, Turn, chat_key, digest_of, fits, owner_key

TURNS = "turns"
"""The name of the stream that lists a run's turns."""


@dataclass(slots=True)
class RunPerChat:
    """Starts one run of a workflow for each chat, and resumes its hook with each message.

    The workflow's argument is the hook's token. Payloads are the requests' bodies with `stream`,
    the name of the stream for the answer; the workflow closes it when the answer is complete. When
    the run has ended, the next message starts another one.
    """

    client: Client
    workflow: Workflow[..., Any]
    retention: Duration | None = UNSET
    attributes: Mapping[str, Any] = field(default_factory=dict[str, Any])
    _runs: Runs = field(init=False)

    def __post_init__(self) -> None:
        self._runs = Runs(self.client)

    async def begin(self, request: ChatRequest) -> Turn:
        """Send a message to the chat's run, which is started where there is none.

        A message that was sent twice, as after a lost answer, has one turn.
        """
        chat = chat_key(request.id, request.principal)
        name = f"ui-{digest_of(request) or secrets.token_hex(16)}"
        newest, head = await self._runs.last(chat)
        number = max(newest, 0)
        if head is not None and await self.client.status_of(head.run) in ENDED:
            number += 1
        for at in range(number, number + RIVALS):
            run = await self._told(f"{chat}_{at}", request, name)
            if run is not None:
                self._runs.note(chat, at)
                return await self._listed(run, request, name)
        raise RunConflict(f"{chat}_{number}", self.workflow.name, "many rivals at once")

    async def _told(self, run: str, request: ChatRequest, name: str) -> Run[Any] | None:
        """Let a run have a message; return None where it has ended."""
        token = f"chat:{run}"
        try:
            return await self.client.start(
                self.workflow, token, id=run, attributes=self.attributes,
                retention=self.retention, resume=(token, {**request.body, "stream": name}),
                resume_id=name,
            )  # fmt: skip
        except (HookNotFound, RunExpired):
            return None

    async def _listed(self, run: Run[Any], request: ChatRequest, name: str) -> Turn:
        answers = request.answers or ""
        message = answers if fits(answers) else ""
        entry = {"stream": name, "message": message}
        async with aclosing(self._turns(run).read(-1, follow=False)) as last:
            if entry not in [found async for found in last]:
                await self._turns(run).write(entry)
        return Turn(run, name, message, continues=bool(message))

    async def find(self, id: str, principal: object) -> Turn | None:  # noqa: A002 - as in the face
        """Return the turn of an id, or the newest of a chat's."""
        run, _, name = id.partition(":")
        if name and run.startswith(f"chat_{owner_key(principal)}_"):
            return await self._found(run, 0, name)
        _, head = await self._runs.last(chat_key(id, principal))
        return None if head is None else await self._found(head.run, -1)

    async def _found(self, run: str, start: int, name: str = "") -> Turn | None:
        """Return the last turn of a run from a place on, or the one of a name."""
        handle = self.client.run(run, self.workflow)
        turn: Turn | None = None
        try:
            async with aclosing(self._turns(handle).read(start, follow=False)) as entries:
                async for entry in entries:
                    if isinstance(entry, Reset) or (name and entry["stream"] != name):
                        continue
                    answer = entry["message"]
                    turn = Turn(handle, entry["stream"], answer, continues=bool(answer))
        except (RunNotFound, RunExpired):
            return None
        return turn

    def _turns(self, run: Run[Any]) -> Stream[dict[str, str]]:
        return cast("Stream[dict[str, str]]", run.stream(TURNS))
