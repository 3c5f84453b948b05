"""A worker: a process's share of the work, as workflow owner and as step actor."""

import asyncio
import os
import platform
import re
import secrets
import socket
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, Self

from .admission import Admission
from .again import again
from .blobs import BlobStore
from .client import Client
from .context import StepServices
from .define import Definition, Registry, registry
from .env import Env, Slots
from .errors import ClientClosed, InvalidOption
from .guard import install, prepare_module
from .janitor import Janitor
from .manifest import digest_of, publish_manifest
from .model import pack, unpack_open
from .names import check_name
from .options import Duration, Settings, check_settings, seconds
from .owner import OwnedPartition, Owner
from .parking import text_for_all
from .ports import Backend, Lease, Unsure
from .remote import RemoteSteps
from .services import Services
from .stalls import Stalls
from .steps import Execution, StepActor
from .taskset import TaskSet, end_of, together, unbroken
from .values import flag, several, whole
from .watchdog import Watchdog
from .witness import Witness

_SLOTS_MOST = 1_000_000


class Worker:
    """Hosts workflows and steps: `async with Worker(client) as worker: await worker.serve()`.

    workflows, steps: what it serves; None is everything that was decorated in this process. With
    no workflow at all it runs steps only, and leaves the runs to others. queues: the step queues
    it takes from. deployment: the version of the code that it is (default: the client's). slots:
    step bodies that run at once. eager: run steps here when a slot is free, instead of sending
    all through the queues. lease: seconds until others take over what a dead worker served
    (default 3). grace: seconds that a drain waits for steps (default 30). settings: the rest of
    what can be told (default: the client's).

    Raises:
        InvalidOption, InvalidName: an option has a value that it cannot have.
    """

    def __init__(  # noqa: PLR0913 - each has a default
        self,
        client: Client,
        *,
        workflows: Iterable[object] | None = None,
        steps: Iterable[object] | None = None,
        queues: Iterable[str] = ("default",),
        deployment: str | None = None,
        slots: int = 100,
        eager: bool = True,
        lease: Duration | None = None,
        grace: Duration | None = None,
        settings: Settings | None = None,
    ) -> None:
        if not isinstance(client, Client):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidOption("client", client, "made by offbook.connect(…)")
        whole("slots", slots, 1, _SLOTS_MOST)
        names = [check_name("queue", q) for q in several("queues", queues, "names")]
        self.client = client
        given = client.deployment if deployment is None else deployment
        self.deployment = check_name("deployment", given)
        self.id = f"{socket.gethostname().split('.')[0][:40]}-{os.getpid()}-{secrets.token_hex(4)}"
        self.id = re.sub(r"[^A-Za-z0-9_-]", "_", self.id)
        base = client.settings if settings is None else check_settings("settings", settings)
        self.settings = replace(
            base,
            lease=base.lease if lease is None else seconds("lease", lease),
            grace=base.grace if grace is None else seconds("grace", grace),
        )
        self._registry = _choose(workflows, steps)
        self._slots = Slots(slots, frozenset(names), eager=flag("eager", eager))
        self._stop = asyncio.Event()
        self._tasks: TaskSet | None = None
        self._lease: Lease | None = None
        self._owner: Owner | None = None
        self._remote: RemoteSteps | None = None
        self._actor: StepActor | None = None
        self._stops: list[Any] = []
        self._ending: asyncio.Task[None] | None = None
        self._killed = False

    def __repr__(self) -> str:
        owned = sorted(p.number for p in self.partitions())
        used = f"{self._slots.used}/{self._slots.total}"
        return f"<Worker {self.id} of {self.deployment} slots={used} partitions={owned}>"

    async def __aenter__(self) -> Self:
        """Start to serve."""
        await self.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """Drain and stop."""
        await self.aclose()

    async def serve(self) -> None:
        """Wait until `stop` is called."""
        await self._stop.wait()

    def stop(self) -> None:
        """Ask `serve` to return; callable from a signal handler of the loop."""
        self._stop.set()

    async def start(self) -> None:
        """Take a lease, a share of the partitions, and the step queues.

        Where it fails or is cancelled, nothing of it stays.

        Raises:
            ClientClosed: the client is not open.
        """
        if self._tasks is not None:
            return
        backend = self.client.backend
        try:
            await self._begin(backend)
        except BaseException:
            await self._end()
            raise

    async def _begin(self, backend: Backend) -> None:
        install()
        for module in {d.fn.__module__ for d in self._registry.workflows.values()}:
            prepare_module(sys.modules[module])
        self._registry.resolve()
        self._slots.on_free.clear()
        self._tasks = TaskSet(self._failed)
        env = self._make_env()
        self._remote = RemoteSteps(env, self._tasks)
        signals = backend.signals
        await again(partial(publish_manifest, env))
        hold = partial(backend.leases.hold, self.id, self._info(), self.settings.lease)
        self._lease = await again(hold)
        self._stops.append(await again(partial(signals.listen, "held", self._on_held)))
        on_scope = self._services.on_scope
        self._stops.append(await again(partial(signals.listen, "scope", on_scope)))
        self._tasks.spawn(self._services.poll(), "scopes")
        stalls = Stalls(self.settings.blocked_loop, self.client.observer, env.steps.step_of)
        stalls.start()
        self._stops.append(stalls.stop)
        await self._remote.start()
        if self._registry.workflows:
            await self._own(env, self._lease, self._tasks)

    async def _own(self, env: Env, lease: Lease, tasks: TaskSet) -> None:
        self._owner = Owner(env, lease, tasks)
        await self._owner.start()
        tasks.spawn(Janitor(env, self._owner).run(), "janitor")

    def _make_env(self) -> Env:
        if self._tasks is None:
            raise ClientClosed
        backend, client = self.client.backend, self.client

        def of(execution: Execution) -> StepServices:
            return self._services.of(execution)

        async def last_beat(run: str, step: str) -> bytes | None:
            return await self._services.last_beat(run, step)

        blobs = BlobStore(backend.blobs, self.settings.inline_limit)
        self._actor = StepActor(
            worker=self.id,
            registry=self._registry,
            codec=client.codec,
            blobs=blobs,
            observer=client.observer,
            clock=backend.clock,
            grace=self.settings.grace,
            services=of,
            last_beat=last_beat,
            threads=min(64, self._slots.total),
        )
        env = Env(
            worker=self.id,
            lane=self.deployment,
            backend=backend,
            codec=client.codec,
            blobs=blobs,
            registry=self._registry,
            settings=self.settings,
            observer=client.observer,
            steps=self._actor,
            slots=self._slots,
            make_handle=client.run,
            watchdog=Watchdog.shared(),
            witness=Witness(client, strict=self.settings.strict_ids),
            admission=Admission(),
            context=self._tasks.context,
        )
        self._services = Services(env, self._tasks, client)
        return env

    def _info(self) -> bytes:
        return pack(
            {
                "lane": self.deployment,
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "python": platform.python_version(),
                "queues": sorted(self._slots.queues),
                "slots": self._slots.total,
                "workflows": len(self._registry.workflows),
                "serves": digest_of(self._registry.workflows),
                "since": self.client.backend.clock.now(),
            }
        )

    def _on_held(self, data: bytes) -> None:
        try:
            note = unpack_open(data)
            actor = self._owner.actor(note["run"]) if self._owner else None
        except (ValueError, KeyError, TypeError):
            return
        if actor is not None:
            actor.effects.held_elsewhere(note["step"])

    def _failed(self, name: str, error: BaseException) -> None:
        self.client.observer.log("error", "task_failed", task=name, error=text_for_all(error))

    async def aclose(self) -> None:
        """Drain: finish or hand back the steps within the grace, hand the partitions over.

        Safe to repeat. Where it is cancelled, it stops at once, as far as bodies of steps do.
        """
        self._stop.set()
        self._hear_no_more()
        grace = self.settings.grace
        try:
            await together(part.stop(grace) for part in (self._remote, self._owner) if part)
        finally:
            await self._end()

    async def _end(self) -> None:
        if self._killed:
            return
        if self._ending is None or self._ending.done():
            self._ending = unbroken(self._let_go())
        await end_of(self._ending)

    def _hear_no_more(self) -> None:
        while self._stops:
            self._stops.pop()()

    async def _let_go(self) -> None:
        """End whatever is left of it."""
        self._hear_no_more()
        if self._remote is not None:
            await self._remote.stop(0.0)
        if self._owner is not None:
            await self._owner.drop()
        if self._lease is not None:
            with suppress(Unsure):
                await self._lease.close()
        if self._tasks is not None:
            await self._tasks.close()
        if self._actor is not None:
            self._actor.close()
        self._forget()

    def _forget(self) -> None:
        self._owner = self._remote = self._lease = self._actor = self._tasks = None

    def partitions(self) -> list[OwnedPartition]:
        """Return the partitions that it serves now."""
        return list(self._owner.partitions.values()) if self._owner is not None else []

    async def kill(self) -> None:
        """Stop without any hand-over, as a crash would: for tests."""
        self._killed = True
        self._stop.set()
        self._hear_no_more()
        if self._ending is not None:
            self._ending.cancel()
        if self._tasks is not None:
            await self._tasks.close()
        if self._owner is not None:
            for partition in self._owner.partitions.values():
                for actor in list(partition.actors.values()):
                    actor.drop()
        if self._actor is not None:
            self._actor.close()
        self._forget()


def _choose(workflows: Iterable[object] | None, steps: Iterable[object] | None) -> Registry:
    if workflows is None and steps is None:
        return registry
    everything: list[Definition[..., Any]] = [
        *registry.workflows.values(),
        *registry.steps.values(),
    ]
    chosen: list[object] = []
    for field, given, kind in (("workflows", workflows, "workflow"), ("steps", steps, "step")):
        if given is None:
            chosen += [d for d in everything if d.kind == kind]
        else:
            chosen += several(field, given, f"functions decorated with @{kind}")
    builtins = [d for d in everything if d.name.startswith("offbook.")]
    return registry.subset([*chosen, *builtins])
