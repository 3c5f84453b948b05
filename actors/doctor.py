"""What is wrong in a namespace, and which runs a nudge helps.

`gather` reads, `findings` judges without any I/O, `mend` nudges; `examine` does all three.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from .errors import (
    CipherError,
    HistoryCorrupted,
    HistoryLost,
    OffbookError,
    RunExpired,
    RunNotFound,
)
from .manifest import read_manifest
from .model import HEAD, unpack_open
from .names import partition_of
from .ports import Ownership, Unsure
from .state import FINAL, RunState, state_of
from .summary import Summary

if TYPE_CHECKING:
    from .client import Client

Level = Literal["error", "warning", "info"]

_AT_ONCE = 16
"""Histories that are read side by side."""

_CURES = {
    "nondeterminism": "put the code back that the run began with, then `offbook doctor --fix`",
    "poison": "its workers died while they ran it: mend the code, then `offbook doctor --fix`",
    "corrupted": "restore the log from a backup, or terminate the run",
    "lost": "restore the log from a backup, or terminate the run",
    "key-missing": "give this process and the workers the key, or terminate the run",
    "stuck": "nothing can wake its body: mend the code, then `offbook doctor --fix`, or terminate",
}


MIXED_CURE = "give each application a deployment, namespace or folder of its own"

_CURES_LATER = {"start-lost": MIXED_CURE}
"""Of what a nudge does not help."""


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """What a live worker says of itself; `since` in microseconds since 1970.

    workflows: how many it knows. One that knows none runs steps only. serves: which they are, as
    a digest.
    """

    id: str
    deployment: str = ""
    host: str = ""
    pid: int = 0
    python: str = ""
    queues: tuple[str, ...] = ()
    slots: int = 0
    since: int = 0
    workflows: int = 0
    serves: str = ""

    @classmethod
    def read(cls, worker: str, data: bytes) -> "WorkerInfo":
        """Read what stands in a lease; of foreign bytes the id alone."""
        try:
            said = unpack_open(data)
            return cls(
                id=worker,
                deployment=str(said["lane"]),
                host=str(said["host"]),
                pid=int(said["pid"]),
                python=str(said["python"]),
                queues=tuple(map(str, said["queues"])),
                slots=int(said["slots"]),
                since=int(said["since"]),
                workflows=int(said["workflows"]),
                serves=str(said.get("serves", "")),
            )
        except (ValueError, KeyError, TypeError):
            return cls(worker)


@dataclass(frozen=True, slots=True)
class Lane:
    """One deployment: who serves it, what its workers know, how much mail waits for them.

    `known` is None where no worker of it ever ran.
    """

    name: str
    workers: tuple[WorkerInfo, ...] = ()
    known: frozenset[str] | None = None
    owners: dict[int, Ownership] = field(default_factory=dict[int, Ownership])
    waiting: int = 0

    @property
    def served(self) -> bool:
        """Whether a live worker runs its workflows."""
        return any(worker.workflows for worker in self.workers)

    @property
    def mixed(self) -> bool:
        """Whether its workers serve different workflows."""
        return are_mixed(self.workers)


@dataclass(frozen=True, slots=True)
class Look:
    """What the log of one quiet run says, and what stands outside of it.

    tasks_gone: remote steps whose task is nowhere. ended, missing: runs of children that have
    ended, or were never made. `state` is None where the log cannot be read: `error` says why, and
    `sealed` that only a key is wanted.
    """

    state: RunState | None
    error: str = ""
    tasks_gone: frozenset[str] = frozenset()
    ended: frozenset[str] = frozenset()
    missing: frozenset[str] = frozenset()
    sealed: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """What was read of a namespace; times in microseconds since 1970.

    active: summaries of runs that have not ended. looks: of those that were quiet for long.
    unseen: quiet runs beyond the limit. synced: whether the server syncs every write; None is
    unknown.
    """

    now: int
    partitions: int
    health: dict[str, Any]
    lanes: dict[str, Lane]
    active: tuple[Summary, ...] = ()
    looks: dict[str, Look] = field(default_factory=dict[str, Look])
    unseen: int = 0
    synced: bool | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be.

    runs: those it is about. nudge: the runs that a nudge may help. mended: they got one.
    """

    code: str
    level: Level
    message: str
    cure: str
    deployment: str = ""
    runs: tuple[str, ...] = ()
    nudge: tuple[str, ...] = ()
    mended: bool = False


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The facts and what follows from them."""

    facts: Facts
    findings: tuple[Finding, ...]

    @property
    def sound(self) -> bool:
        """Whether nothing above advice is left that no nudge was sent for."""
        return all(f.level == "info" or f.mended for f in self.findings)


async def examine(
    client: "Client",
    *,
    stale: float = 60.0,
    limit: int = 1000,
    fix: bool = False,
    synced: bool | None = None,
) -> Diagnosis:
    """Look at a namespace: server, workers, mail, and the runs that have not ended.

    stale: seconds without a record after which a run's log is read. limit: how many logs at
    most, those quiet for longest first. fix: nudge what a nudge may help. synced: what is known
    of the server's sync setting.

    Raises:
        ServerUnavailable: the server does not answer.
    """
    facts = await gather(client, stale=stale, limit=limit, synced=synced)
    found = findings(facts, stale)
    if fix:
        found = [replace(f, mended=await mend(client, f)) if f.nudge else f for f in found]
    return Diagnosis(facts, tuple(found))


async def workers_of(client: "Client") -> tuple[WorkerInfo, ...]:
    """Return the workers whose leases stand, oldest first."""
    live = await client.backend.leases.live()
    workers = [WorkerInfo.read(worker, data) for worker, data in live.items()]
    return tuple(sorted(workers, key=lambda w: (w.since, w.id)))


async def mend(client: "Client", finding: Finding) -> bool:
    """Nudge the runs of a finding: their owners issue everything again that has no outcome.

    A run whose start was lost gets its start again. Returns whether there was any.
    """
    for run in finding.nudge:
        with suppress(CipherError):  # who cannot read it cannot mend it either
            head = await client.backend.log.tail(run)
            if head is not None and head.key == HEAD:
                lane = finding.deployment or client.deployment
                await client.backend.mail.send(lane, run, "start", head.data)
            elif head is not None:
                await client.nudge_run(run)
    return bool(finding.nudge)


# Reading


async def gather(
    client: "Client", *, stale: float, limit: int = 1000, synced: bool | None = None
) -> Facts:
    """Read what `findings` needs."""
    backend = client.backend
    now = backend.clock.now()
    active = [summary async for summary in client.runs() if summary.status not in FINAL]
    quiet = [s for s in active if s.status != "blocked" and now - s.updated >= stale * 1e6]
    quiet.sort(key=lambda summary: summary.updated)
    return Facts(
        now=now,
        partitions=backend.namespace.partitions,
        health=await backend.health(),
        lanes=await lanes_of(client, {summary.deployment for summary in active}),
        active=tuple(active),
        looks=await _look_at(client, quiet[:limit], now - round(stale * 1e6)),
        unseen=max(0, len(quiet) - limit),
        synced=synced,
    )


async def lanes_of(client: "Client", more: Iterable[str] = ()) -> dict[str, Lane]:
    """Return every deployment that has workers, a manifest, or is named in `more`."""
    backend = client.backend
    served: dict[str, list[WorkerInfo]] = defaultdict(list)
    for worker in await workers_of(client):
        if worker.deployment:
            served[worker.deployment].append(worker)
    names = {entry.key async for entry in backend.deployments.scan()} - {"current"}
    lanes: dict[str, Lane] = {}
    for name in sorted({*names, *served, *more}):
        manifest = await read_manifest(backend, name)
        lanes[name] = Lane(
            name=name,
            workers=tuple(served[name]),
            known=None if manifest is None else frozenset(manifest.get("workflows", ())),
            owners=await backend.leases.owners(name),
            waiting=await backend.mail.waiting(name),
        )
    return lanes


async def _look_at(client: "Client", quiet: list[Summary], before: int) -> dict[str, Look]:
    gate = asyncio.Semaphore(_AT_ONCE)
    looks: dict[str, Look] = {}

    async def one(run: str) -> None:
        async with gate:
            found = await _look(client, run, before)
        if found is not None:
            looks[run] = found

    async with asyncio.TaskGroup() as group:
        for summary in quiet:
            group.create_task(one(summary.id))
    return looks


async def _look(client: "Client", run: str, before: int) -> Look | None:
    try:
        state = state_of(await client.history(run))
    except (RunExpired, RunNotFound):
        return None
    except CipherError as error:
        return Look(None, str(error), sealed=True)
    except (HistoryCorrupted, HistoryLost) as error:
        return Look(None, str(error))
    ended, missing = await _children(client, state)
    return Look(state, tasks_gone=await _gone(client, state, before), ended=ended, missing=missing)


async def _gone(client: "Client", state: RunState, before: int) -> frozenset[str]:
    gone: set[str] = set()
    for step in state.steps.values():
        if not step.remote or max(step.scheduled, step.due or 0) > before:
            continue
        try:
            stands = await client.backend.tasks.stands(state.head.run, step.id, step.attempt)
        except Unsure:
            continue
        if not stands:
            gone.add(step.id)
    return frozenset(gone)


async def _children(client: "Client", state: RunState) -> tuple[frozenset[str], frozenset[str]]:
    ended: set[str] = set()
    missing: set[str] = set()
    for child in state.children.values():
        try:
            if await client.status_of(child.run) in FINAL:
                ended.add(child.run)
        except RunNotFound:
            missing.add(child.run)
        except OffbookError:
            continue
    return frozenset(ended), frozenset(missing)


# Judging


def findings(facts: Facts, stale: float) -> list[Finding]:
    """Return what is wrong, the worst first. No I/O."""
    before = facts.now - round(stale * 1e6)
    found = [
        *_of_server(facts),
        *(finding for lane in facts.lanes.values() for finding in _of_lane(facts, lane)),
        *_blocked(facts),
        *(f for run, look in facts.looks.items() for f in _of_run(facts, run, look, before)),
        *_unseen(facts),
    ]
    order = {"error": 0, "warning": 1, "info": 2}
    return sorted(found, key=lambda f: order[f.level])


def _of_server(facts: Facts) -> Iterator[Finding]:
    health = facts.health
    for problem in health.get("problems", ()):
        yield Finding("server-setting", "warning", str(problem), "see docs/operations.md")
    for fault in health.get("faults", ()):
        yield Finding("fault", "warning", str(fault), "report it, with the log of this process")
    synced = facts.synced if facts.synced is not None else health.get("sync_always")
    if synced is False:
        message = "the server acknowledges writes before they are on its disk"
        cure = "set jetstream { sync_interval: always }, or replicas of 3"
        yield Finding("sync-off", "warning", message, cure)
    elif synced is not True and health.get("replicas", 1) == 1:
        message = "whether the server syncs each write is unknown"
        cure = "set jetstream { sync_interval: always }; only the server's own /varz tells"
        yield Finding("sync-unknown", "info", message, cure)
    if health.get("cluster_size", 1) > 1 and health.get("replicas", 1) == 1:
        message = "the server is a cluster, but the namespace has one copy of everything"
        cure = "create namespaces with --replicas 3: the loss of one server is then no loss"
        yield Finding("one-replica", "info", message, cure)


def _of_lane(facts: Facts, lane: Lane) -> Iterator[Finding]:
    mine = [s for s in facts.active if s.deployment == lane.name]
    if not lane.served:
        yield from _unserved(lane, mine)
        return
    yield from _unowned(facts, lane)
    yield from _unknown(lane, mine)
    if lane.mixed:
        message = f"the workers of {lane.name} serve different workflows, and any may own any run"
        yield Finding("mixed-workflows", "warning", message, MIXED_CURE, lane.name)
    pythons = sorted({".".join(w.python.split(".")[:2]) for w in lane.workers})
    if len(pythons) > 1:
        message = f"the workers of {lane.name} run Python {' and '.join(pythons)}"
        cure = "give each version of Python its own deployment"
        yield Finding("mixed-pythons", "warning", message, cure, lane.name)


def _unserved(lane: Lane, mine: list[Summary]) -> Iterator[Finding]:
    cure = f"start one: offbook worker MODULE --deployment {lane.name}"
    nobody = "no live worker runs its workflows"
    if mine:
        message = f"{_count(mine)} of deployment {lane.name} {_wait(mine)}, and {nobody}"
        yield Finding("no-worker", "error", message, cure, lane.name, _ids(mine))
    elif lane.waiting:
        message = f"{lane.waiting:,} messages wait for deployment {lane.name}, and {nobody}"
        yield Finding("mail-waits", "warning", message, cure, lane.name)


def _unowned(facts: Facts, lane: Lane) -> Iterator[Finding]:
    live = {worker.id for worker in lane.workers}
    nobody = Ownership("", 0)
    free = [p for p in range(facts.partitions) if lane.owners.get(p, nobody).worker not in live]
    if free:
        message = f"{len(free)} of {facts.partitions} partitions of {lane.name} have no live owner"
        cure = "workers take them within seconds; if not, look at the workers' logs"
        yield Finding("no-owner", "warning", message, cure, lane.name)


def _unknown(lane: Lane, mine: list[Summary]) -> Iterator[Finding]:
    by_name: dict[str, list[Summary]] = defaultdict(list)
    for summary in mine:
        if lane.known is not None and summary.workflow and summary.workflow not in lane.known:
            by_name[summary.workflow].append(summary)
    for name, runs in by_name.items():
        message = f"no worker of {lane.name} knows workflow {name}: {_count(runs)} {_wait(runs)}"
        cure = f"start a worker of {lane.name} that imports its module"
        yield Finding("workflow-not-registered", "error", message, cure, lane.name, _ids(runs))


def _blocked(facts: Facts) -> Iterator[Finding]:
    for run in facts.active:
        if run.status == "blocked":
            reason = run.reason or "unknown"
            detail = (run.detail or "see offbook show").removeprefix(f"run {run.id!r}, ")
            message = f"run {run.id} is blocked ({reason}): {detail}"
            cure = _CURES.get(reason, "mend the cause, then `offbook doctor --fix`")
            yield Finding(
                "run-blocked", "error", message, cure, run.deployment, (run.id,), (run.id,)
            )


def _unseen(facts: Facts) -> Iterator[Finding]:
    if facts.unseen:
        message = f"{facts.unseen:,} quiet runs were not looked at"
        yield Finding("not-looked-at", "info", message, "raise --limit")


def _of_run(facts: Facts, run: str, look: Look, before: int) -> Iterator[Finding]:
    state = look.state
    if state is None and look.sealed:
        yield Finding("log-sealed", "warning", look.error, _CURES["key-missing"], runs=(run,))
        return
    if state is None:
        cure = "restore the log from a backup, or terminate the run"
        yield Finding("log-damaged", "error", look.error, cure, runs=(run,))
        return
    lane = facts.lanes.get(state.head.deployment)
    if lane is None or not lane.served:
        return
    for code, level, message, helped in _lost(state, look, before, lane):
        apart = _CURES_LATER.get(code) or _queue_cure(lane)
        cure = "nudge it: offbook doctor --fix" if helped else apart
        text = f"run {run}: {message}"
        yield Finding(code, level, text, cure, lane.name, (run,), helped)


_Loss = tuple[str, Level, str, tuple[str, ...]]


def _lost(state: RunState, look: Look, before: int, lane: Lane) -> Iterator[_Loss]:
    """Yield what seems lost: code, level, message, and the runs that a nudge would help."""
    me = (state.head.run,)
    if state.at > before:
        return  # its summary is behind, which is no fault
    if state.end is not None:
        yield "summary-behind", "warning", "it has ended, but its end is not known everywhere", me
        return
    if not state.started:
        if (state.head.start_at or 0) <= before and _is_known(state, lane):
            yield _unbegun(state.head.workflow, lane, me)
        return
    waits = [*_timers(state, before), *_hooks(state, before), *_steps(state, look, lane)]
    waits += _child_losses(look)
    yield from waits
    if not (state.steps or state.timers or state.hooks or state.children):
        yield "waits-for-nothing", "error", "it has not ended and nothing is pending", me


def _unbegun(workflow: str, lane: Lane, me: tuple[str, ...]) -> _Loss:
    if lane.mixed:
        message = f"nobody has begun it, as its owner may lack workflow {workflow}"
        return "start-lost", "error", message, ()
    return "start-lost", "error", "nobody has begun it, though workers serve it", me


def _is_known(state: RunState, lane: Lane) -> bool:
    return lane.known is None or state.head.workflow in lane.known


def _timers(state: RunState, before: int) -> Iterator[_Loss]:
    late = [timer for timer in state.timers.values() if timer.due <= before]
    if late:
        message = f"timer {late[0].id} is overdue"
        yield "timer-overdue", "error", message, (state.head.run,)


def _hooks(state: RunState, before: int) -> Iterator[_Loss]:
    late = [h for h in state.hooks.values() if not h.opened and h.since <= before]
    if late:
        yield "hook-not-open", "error", f"hook {late[0].id} is not open", (state.head.run,)


def _steps(state: RunState, look: Look, lane: Lane) -> Iterator[_Loss]:
    me = (state.head.run,)
    queues = {queue for worker in lane.workers for queue in worker.queues}
    for step in state.steps.values():
        if step.remote and step.queue not in queues:
            message = f"step {step.name} waits in queue {step.queue}, which no worker serves"
            yield "queue-not-served", "error", message, ()
        elif step.id in look.tasks_gone:
            yield "task-lost", "error", f"step {step.name} is open and its task is gone", me
        elif not step.remote:
            yield "step-quiet", "info", f"step {step.name} has not ended for long", me


def _child_losses(look: Look) -> Iterator[_Loss]:
    me = () if look.state is None else (look.state.head.run,)
    for child in sorted(look.ended):
        message = f"child {child} has ended, which the run does not know"
        yield "child-end-lost", "error", message, (child,)
    for child in sorted(look.missing):
        yield "child-start-lost", "error", f"child {child} was never made", me


def _queue_cure(lane: Lane) -> str:
    return f"start a worker: offbook worker MODULE --deployment {lane.name} --queue QUEUE"


def _count(runs: list[Summary]) -> str:
    return f"{len(runs):,} run{'s' if len(runs) != 1 else ''}"


def _wait(runs: list[Summary]) -> str:
    return "wait" if len(runs) != 1 else "waits"


def _ids(runs: list[Summary]) -> tuple[str, ...]:
    return tuple(summary.id for summary in runs)


def are_mixed(workers: Iterable[WorkerInfo]) -> bool:
    """Return whether workers of one deployment serve different workflows."""
    return len({worker.serves for worker in workers if worker.workflows and worker.serves}) > 1


def owner_of(lane: Lane, run: str, partitions: int) -> str:
    """Return the worker that serves a run; empty where none that is live does."""
    found = lane.owners.get(partition_of(run, partitions))
    live = {worker.id for worker in lane.workers}
    return found.worker if found is not None and found.worker in live else ""
