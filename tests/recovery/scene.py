"""A client, a troupe of workers and a witness, around one namespace of a real server."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import offbook
from offbook import Client, Run, RunNotFound, Settings
from offbook.actors.model import History, unpack
from offbook.actors.state import FINAL, state_of
from support.checks import Evidence, verdicts
from support.ledger import Ledger
from support.processes import Player, Troupe

T = TypeVar("T")

QUICK = Settings(lease=1.0, short_timer=0.5, idle=0.5, grace=5.0)
"""Leases as short as the server allows, so that a takeover takes about a second."""

_LOOK_SECONDS = 0.05


class Scene:
    """What a test of recovery has in hand."""

    def __init__(self, client: Client, ledger: Ledger, troupe: Troupe, settings: Settings) -> None:
        self.client = client
        self.ledger = ledger
        self.troupe = troupe
        self.settings = settings
        self.expected: dict[str, object] = {}
        self.accepted: dict[str, list[str]] = {}
        self._results: dict[str, object] = {}

    async def add(self, count: int = 1, **options: Any) -> list[Player]:  # noqa: ANN401 - of Worker
        """Start workers that serve all queues."""
        chosen = {"queues": ["default", "far"], **options}
        return await asyncio.gather(*(self.troupe.add(**chosen) for _ in range(count)))

    async def start(self, play: Any, label: str, *args: Any, right: object) -> Run[Any]:  # noqa: ANN401
        """Start a run whose id is its label; `right` is what it must return."""
        run: Run[Any] = await self.client.start(play, label, *args, id=label)
        self.expected[run.id] = right
        return run

    async def resume(self, run: str, payload: int, caller: str) -> None:
        """Send a payload to the hook that has the run's label as its token."""
        await until(lambda: self._hook_is_open(run))
        await self.client.resume(run, payload, id=caller)
        self.accepted.setdefault(run, []).append(caller)

    async def _hook_is_open(self, token: str) -> bool:
        try:
            return (await self.client.hook(token)).open
        except offbook.HookNotFound:
            return False

    async def result(self, run: str) -> object:
        """Wait for the end of a run."""
        self._results[run] = await self.client.run(run).result()
        return self._results[run]

    async def owner(self) -> Player:
        """Return who serves the only partition, once all workers agree on that."""
        leases = self.client.backend.leases
        while True:
            owners, live = await leases.owners("default"), await leases.live()
            alive = [player for player in self.troupe.players if player.alive]
            if len(live) == len(alive) and owners and owners[0].worker == min(live):
                return self.troupe.by_pid(unpack(live[owners[0].worker])["pid"])
            await asyncio.sleep(_LOOK_SECONDS)

    async def history(self, run: str) -> History | None:
        try:
            return await self.client.history(run)
        except RunNotFound:
            return None

    async def waits(self, run: str, kind: str) -> None:
        """Return when the log says that a run waits for `timers`, `hooks`, `children`, `steps`."""

        async def holds() -> bool:
            history = await self.history(run)
            return history is not None and bool(getattr(state_of(history), kind))

        await until(holds)

    async def evidence(self) -> Evidence:
        """Gather what is to be judged."""
        calls = self.ledger.calls()
        names = {*self.expected, *(call.run for call in calls)}
        found = {name: await self.history(name) for name in sorted(names)}
        histories = {name: history for name, history in found.items() if history is not None}
        for name in self.expected:
            history = histories.get(name)
            if history is not None and state_of(history).status in FINAL:
                await self.result(name)
        acts = self.troupe.acts + self.ledger.acts()
        return Evidence(
            self.expected,
            histories,
            self._results,
            calls,
            acts,
            self.accepted,
            self.ledger.faults(),
        )

    async def judge(self) -> None:
        """Fail where a rule is broken; all runs must have ended."""
        found = verdicts(await self.evidence())
        assert not found, f"{found}\n{self.troupe.log.read_text('utf-8')[-3000:]}"


async def until(holds: Callable[[], Awaitable[object]]) -> None:
    """Return once something holds; the test's own timeout ends a wait in vain."""
    while not await holds():  # noqa: ASYNC110 - what is awaited has no event of its own
        await asyncio.sleep(_LOOK_SECONDS)


@asynccontextmanager
async def scene(  # noqa: PLR0913 - each has a default
    url: str,
    namespace: str,
    folder: Path,
    *,
    partitions: int = 1,
    settings: Settings = QUICK,
    module: str = "recovery.plays",
) -> AsyncGenerator[Scene]:
    """Open a client of a new namespace; with one partition it is one worker that owns all."""
    ledger = Ledger(folder / "ledger")
    connection = offbook.connect(
        url, namespace=namespace, partitions=partitions, shards=1, settings=settings
    )
    troupe = Troupe(url, namespace, module, ledger, settings)
    async with connection as client, troupe:
        yield Scene(client, ledger, troupe, settings)
