"""For tests of workflows: a whole offbook in this process, with time that jumps when all wait.

`run(main())` runs a coroutine on virtual time; `Environment` is a world in memory with workers in
it. The code under test is the code of production: only the doors to the world are others.
"""

import asyncio
import inspect
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

from offbook.actors.client import Client
from offbook.actors.codec import Codec
from offbook.actors.define import Step, Workflow, registry
from offbook.actors.errors import InvalidOption, NotInRun
from offbook.actors.frames import Cipher
from offbook.actors.loading import Portion, has_blobs, run_info
from offbook.actors.loading import replay as replay_records
from offbook.actors.machine import Machine
from offbook.actors.model import BlobRef, Command, History
from offbook.actors.options import Settings
from offbook.actors.ports import Backend, Namespace, Observer
from offbook.actors.run import Run, RunEvent
from offbook.actors.turn import SILENT
from offbook.actors.worker import Worker
from offbook.adapters.cipher.backend import sealed
from offbook.adapters.log import LogObserver, Observers
from offbook.adapters.memory import MemoryBackend, Noise, World
from offbook.adapters.memory.faults import CrashAt, Recorder, SeamHook
from offbook.adapters.memory.time import Deadlock, run

from ._standstill import Standstill

__all__ = [
    "CrashAt",
    "Deadlock",
    "Environment",
    "History",
    "Noise",
    "Recorder",
    "World",
    "replay",
    "run",
]

T = TypeVar("T")


class Environment:
    """A world in memory with workers: `async with Environment() as env:`.

    workers: how many. eager: whether steps run beside their workflow or travel through the
    queues. always_suspend: runs leave memory after every turn, so that every wait is a replay.
    settings, deployment, queues, slots: as for `Worker`. world: share one between environments.
    cipher: as for `connect`.
    """

    def __init__(  # noqa: PLR0913 - each has a default
        self,
        *,
        workers: int = 1,
        eager: bool = True,
        always_suspend: bool = False,
        settings: Settings | None = None,
        deployment: str = "default",
        queues: Iterable[str] = ("default",),
        slots: int = 100,
        namespace: Namespace | None = None,
        world: World | None = None,
        observer: Observer | None = None,
        registry_of: Iterable[object] | None = None,
        cipher: Cipher | None = None,
    ) -> None:
        base = settings or Settings()
        self.settings = replace(base, idle=0.0) if always_suspend else base
        self.namespace = namespace or Namespace(partitions=4, shards=1)
        self.world = world or World()
        self.workers: list[Worker] = []
        self._count = workers
        self._eager = eager
        self._deployment = deployment
        self._queues = tuple(queues)
        self._slots = slots
        self._cipher = cipher
        self._observer = observer or Observers([LogObserver()])
        self._definitions = None if registry_of is None else tuple(registry_of)
        self._clients: list[Client] = []
        self._burials: list[asyncio.Future[None]] = []
        self._deaths: dict[Worker, asyncio.Event] = {}
        self._fakes: dict[str, Callable[..., Any]] = {}
        self._standstill: Standstill | None = None
        self.client = self.make_client()

    def __repr__(self) -> str:
        return f"<Environment workers={self.workers}>"

    async def __aenter__(self) -> Self:
        """Open the client and start the workers."""
        await self.client.__aenter__()
        self._standstill = Standstill(self.client, self.settings.lease)
        for _ in range(self._count):
            await self.add_worker()
        if self._count:
            self._standstill.begin()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        """Stop the workers, restore the steps, close the clients.

        Raises:
            Deadlock: on virtual time, where the block waited for a run, and all runs waited for
                hooks that nobody was left to resume, or were blocked.
        """
        failure = None
        if self._standstill is not None:
            await self._standstill.end()
            failure = self._standstill.failure(error)
        await self._close()
        if failure is not None:
            raise failure from None

    async def _close(self) -> None:
        for client in self._clients:
            backend = _below(client.backend) if client.is_open else None
            if isinstance(backend, MemoryBackend):
                backend.seam = None
        for worker in list(self.workers):
            await self.stop_worker(worker)
        await asyncio.gather(*self._burials)
        for name, fn in self._fakes.items():
            _set_body(registry.steps[name], fn)
        for client in reversed(self._clients):
            await client.aclose()

    def make_client(self, seam: SeamHook | None = None) -> Client:
        """Return another client of the same world, on its own connection.

        seam: decides at each point of each port call, such as `CrashAt` or `Noise`.
        """
        client = Client(
            partial(self._sealed, seam),
            observer=self._observer,
            deployment=self._deployment,
            settings=self.settings,
        )
        self._clients.append(client)
        return client

    def _sealed(self, seam: SeamHook | None) -> AbstractAsyncContextManager[Backend]:
        connection = partial(self._connection, seam)
        return connection() if self._cipher is None else sealed(connection, self._cipher)

    def _connection(self, seam: SeamHook | None) -> AbstractAsyncContextManager[Backend]:
        return _opened(MemoryBackend(self.world, namespace=self.namespace, seam=seam))

    async def add_worker(
        self,
        *,
        seam: SeamHook | None = None,
        **options: Any,  # noqa: ANN401 - options of Worker
    ) -> Worker:
        """Start another worker, as a process of its own would be.

        With a `seam` that crashes, the worker is gone as after SIGKILL; that may be before this
        returns.
        """
        client = self.make_client(seam)
        await client.__aenter__()
        known: dict[str, Any] = {
            "queues": self._queues,
            "slots": self._slots,
            "eager": self._eager,
            "settings": self.settings,
        }
        if self._definitions is not None:
            known["workflows"] = [d for d in self._definitions if isinstance(d, Workflow)]
            known["steps"] = [d for d in self._definitions if isinstance(d, Step)]
        worker = Worker(client, **(known | options))
        self.workers.append(worker)
        backend = _below(client.backend)
        if isinstance(backend, MemoryBackend):
            self._deaths[worker] = asyncio.Event()
            backend.when_killed(partial(self._on_kill, worker))
        await self._mortal(worker, worker.start())
        return worker

    def _on_kill(self, worker: Worker) -> None:
        self._deaths[worker].set()
        self._burials.append(asyncio.ensure_future(self._bury(worker)))

    async def _mortal(self, worker: Worker, job: Coroutine[Any, Any, None]) -> None:
        """Await a worker's job for as long as its process lives."""
        died = self._deaths.get(worker)
        if died is None:
            await job
            return
        work = asyncio.ensure_future(job)
        death = asyncio.ensure_future(died.wait())
        await asyncio.wait((work, death), return_when=asyncio.FIRST_COMPLETED)
        for task in (work, death):
            task.cancel()
        await asyncio.wait((work, death))
        if not work.cancelled():
            work.result()

    async def _bury(self, worker: Worker) -> None:
        if worker in self.workers:
            self.workers.remove(worker)
        await worker.kill()

    async def stop_worker(self, worker: Worker) -> None:
        """Drain and stop a worker."""
        self.workers.remove(worker)
        await self._mortal(worker, worker.aclose())
        await self._mortal(worker, worker.client.aclose())

    async def kill_worker(self, worker: Worker) -> None:
        """End a worker as SIGKILL would: no hand-over, no goodbye."""
        backend = _below(worker.client.backend)
        if isinstance(backend, MemoryBackend):
            backend.kill()
            await asyncio.gather(*self._burials)
        else:
            await self._bury(worker)

    # Waiting for what a run does

    async def wait_for(
        self, run: Run[Any], kind: str, *, count: int = 1, name: str | None = None
    ) -> RunEvent:
        """Return the `count`-th event of a kind in a run's history, once it is there."""
        async for event in run.events(follow=True):
            if event.type == kind and (name is None or event.name.endswith(name)):
                count -= 1
                if count == 0:
                    return event
        raise NotInRun(f"an event {kind!r}", f"run {run.id!r}, which has ended")

    async def wait_for_sleep(self, run: Run[Any]) -> str:
        """Wait until a run sleeps; return the timer's id, for `run.wake`."""
        return (await self.wait_for(run, "timer_started")).id

    async def wait_for_hook(self, run: Run[Any], *, count: int = 1) -> str:
        """Wait until a run has opened a hook; return the hook's id."""
        return (await self.wait_for(run, "hook_opened", count=count)).id

    # Changing the world

    def fake(self, step: Step[..., Any], body: Callable[..., Any]) -> None:
        """Let a step run another body until the environment closes."""
        if not isinstance(step, Step):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidOption("step", step, "made by @step")
        if not callable(body):
            raise InvalidOption("body", body, "a function")
        self._fakes.setdefault(step.name, step.fn)
        _set_body(step, body)

    async def history(self, run: Run[Any]) -> History:
        """Return the verified history of a run, large payloads included, for `replay`."""
        return await self.client.history(run.id, whole=True)

    async def kinds(self, run: Run[Any]) -> list[str]:
        """Return the types of a run's events, in order, for asserts."""
        return [event.type async for event in run.events()]


def _below(backend: Backend) -> Backend:
    """Return the backend that a cipher seals for, or what there is."""
    found: Backend = getattr(backend, "inner", backend)
    return found


def _set_body(step: Step[..., Any], body: Callable[..., Any]) -> None:
    step.fn = body
    step.is_async = inspect.iscoroutinefunction(body)


@asynccontextmanager
async def _opened(backend: MemoryBackend) -> AsyncGenerator[Backend]:
    await backend.open()
    try:
        yield backend
    finally:
        if backend.alive:
            await backend.close()


def replay(
    history: History, workflow: Workflow[..., Any], *, records: int | None = None
) -> Machine:
    """Replay a stored history (or its first `records`) on today's code, without any effect.

    The machine that comes back is evicted; it shows how the run ended (`ended`). A terminated run
    is replayed up to there: its code had no part in it.

    Raises:
        NonDeterminismError: the code gives other commands than the history holds.
        InvalidOption: the history lacks large payloads; `Environment.history` has them, and
            `client.history` with whole=True.
    """
    head = history.head
    events = [event for record in history.records[:records] for event in record.events]
    if isinstance(head.input, BlobRef) or any(map(has_blobs, events)):
        raise InvalidOption("history", head.run, "read with whole=True")
    info = run_info(head, head.attributes)
    attributes = dict(head.attributes)
    machine = Machine(workflow, info, head.input, head.seed, Codec(), attributes=attributes)
    machine.run_handle = partial(Run, None)
    heard: Portion = []
    ended: Command | None = None
    for record in history.records[:records]:
        if record.commands and record.commands[-1].kind == "terminated":
            ended = record.commands[-1]
            break
        heard.append((record, [e for e in record.events if e.kind not in SILENT]))
    try:
        replay_records(machine, heard)
        machine.ended = ended or machine.ended
    finally:
        machine.evict()
    return machine
