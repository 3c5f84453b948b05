"""`offbook health`, `doctor`, `server` and `namespace`: how server, workers and runs are."""

import os
from collections import Counter
from pathlib import Path
from typing import Any

import click
from click.exceptions import Exit

from offbook.actors.doctor import Diagnosis, Finding, Lane, WorkerInfo, examine, lanes_of
from offbook.actors.ports import Namespace

from .failures import FOUND, SERVER
from .hints import hint
from .output import count, emit, facts, moment, say, since, size, table, yes_or_no
from .setup import FOLDER, Setup, command, common, without_logins
from .values import SPAN

_FIXED = ("namespace", "partitions", "shards", "replicas")
_SERVER = ("url", "version", "cluster", "cluster_size", "max_payload", *_FIXED, "sync_always")
_SHOWN = 5


@command(short_help="Tell how the server is, and which workers are live.")
async def health(setup: Setup) -> None:
    """Tell how the server and the workers are; 1 where the server has problems."""
    async with setup.connect() as client:
        found = await client.backend.health()
        lanes = await lanes_of(client)
    if setup.embedded:
        found["sync_always"] = True
    if setup.json:
        shown = [_lane(lane) for lane in lanes.values()]
        emit(_server(found) | {"workers": _workers(lanes), "deployments": shown})
    else:
        rows = [*_server_rows(found), ("workers", _workers(lanes))]
        facts((name.replace("_", " "), value) for name, value in rows)
        _show_lanes(lanes)
        if not _workers(lanes):
            hint(setup, "no worker is live: runs wait for one; offbook worker MODULE")
    if found["problems"] or not found["connected"]:
        raise Exit(FOUND)


def _workers(lanes: dict[str, Lane]) -> int:
    return sum(len(lane.workers) for lane in lanes.values())


def _server(found: dict[str, Any]) -> dict[str, Any]:
    """Return the facts of a server that may be shown: no login in any URL."""
    shown: dict[str, Any] = {name: found.get(name) for name in _SERVER}
    shown["url"] = without_logins(str(found.get("url", "")))
    shown["connected"] = found["connected"]
    rtt = found.get("rtt_seconds")
    shown["rtt_ms"] = None if rtt is None else round(rtt * 1000, 3)
    account: dict[str, Any] = found.get("jetstream") or {}
    shown |= {name: account.get(name) for name in ("storage", "streams", "consumers")}
    shown["problems"] = [without_logins(str(problem)) for problem in found["problems"]]
    shown["faults"] = [without_logins(str(fault)) for fault in found.get("faults", ())]
    return shown


def _server_rows(found: dict[str, Any]) -> list[tuple[str, object]]:
    shown = _server(found)
    if shown["rtt_ms"] is not None:
        shown["rtt_ms"] = f"{shown['rtt_ms']:g}"
    shown["problems"] = "\n".join(shown["problems"])
    shown["faults"] = "\n".join(shown["faults"])
    shown |= {name: size(shown[name]) for name in ("storage", "max_payload")}
    return [(name, yes_or_no(value)) for name, value in shown.items()]


def _lane(lane: Lane) -> dict[str, Any]:
    return {
        "deployment": lane.name,
        "waiting": lane.waiting,
        "workflows": None if lane.known is None else sorted(_own(lane.known)),
        "workers": [_worker(worker, lane) for worker in lane.workers],
    }


def _worker(worker: WorkerInfo, lane: Lane) -> dict[str, Any]:
    owned = sorted(p for p, owner in lane.owners.items() if owner.worker == worker.id)
    known = {"worker": worker.id, "host": worker.host, "pid": worker.pid, "python": worker.python}
    known |= {"queues": list(worker.queues), "slots": worker.slots}
    return known | {"since": moment(worker.since), "partitions": owned}


def _own(names: frozenset[str]) -> list[str]:
    return [name for name in names if not name.startswith("offbook.")]


def _show_lanes(lanes: dict[str, Lane]) -> None:
    for lane in lanes.values():
        say()
        workers, messages = count(len(lane.workers), "worker"), count(lane.waiting, "message")
        say(f"deployment {lane.name}: {workers}, {messages} not yet acknowledged")
        if lane.workers:
            columns = ("worker", "up", "python", "queues", "slots", "partitions")
            table(columns, [_row(worker, lane) for worker in lane.workers], "  ")


def _row(worker: WorkerInfo, lane: Lane) -> tuple[object, ...]:
    owned = sum(owner.worker == worker.id for owner in lane.owners.values())
    up = since(moment(worker.since))
    return worker.id, up, worker.python, ",".join(worker.queues), worker.slots, owned


@command(short_help="Find blocked runs, lost effects and bad settings.")
@click.option("--fix", is_flag=True, help="nudge the runs that a nudge may help")
@click.option("--stale", type=SPAN, default=60.0, help="look into runs quiet for so long [60s]")
@click.option("--limit", type=click.IntRange(0), default=1000, show_default=True)
async def doctor(setup: Setup, *, fix: bool, stale: float, limit: int) -> None:
    """Find runs that are blocked or lost an effect, and bad settings of the server.

    1 where something is found that is more than advice, and was not mended.
    """
    async with setup.connect() as client:
        synced = True if setup.embedded else None
        found = await examine(client, stale=stale, limit=limit, fix=fix, synced=synced)
    if setup.json:
        emit(_diagnosis(found))
    else:
        _show_diagnosis(found, fix=fix)
    if not found.sound:
        raise Exit(FOUND)


def _diagnosis(found: Diagnosis) -> dict[str, Any]:
    return {
        "sound": found.sound,
        "at": moment(found.facts.now),
        "open_runs": len(found.facts.active),
        "looked_into": len(found.facts.looks),
        "workers": _workers(found.facts.lanes),
        "findings": list(found.findings),
    }


def _show_diagnosis(found: Diagnosis, *, fix: bool) -> None:
    for finding in found.findings:
        label = click.style(finding.level.ljust(7), fg=_COLOURS[finding.level])
        click.echo(f"{label} {finding.code}", nl=False)
        say(f": {without_logins(finding.message)}")
        say(f"        {'nudged' if finding.mended else finding.cure}{_runs(finding)}")
    runs = count(len(found.facts.active), "open run")
    workers = count(_workers(found.facts.lanes), "worker")
    say(f"{runs}, {workers}: {_verdict(found, fix=fix)}")


_COLOURS = {"error": "red", "warning": "yellow", "info": "blue"}


def _runs(finding: Finding) -> str:
    if not finding.runs or finding.nudge:
        return ""
    more = "" if len(finding.runs) <= _SHOWN else f" and {len(finding.runs) - _SHOWN} more"
    return f" ({', '.join(finding.runs[:_SHOWN])}{more})"


def _verdict(found: Diagnosis, *, fix: bool) -> str:
    helped = sum(bool(finding.nudge) for finding in found.findings)
    if found.sound:
        return "all is well" if not helped else "what was found got a nudge"
    return "see above" if fix or not helped else "offbook doctor --fix may help"


@click.group()
@common
def server() -> None:
    """Look at the embedded server."""


@command(name="status", useless=("url", "namespace", "deployment"))
async def server_status(setup: Setup) -> None:
    """Tell how the embedded server of a folder is; 4 where it is not running."""
    from offbook.adapters.server import EmbeddedServer  # noqa: PLC0415 - not on Windows

    if setup.url:
        raise click.UsageError("the embedded server has no --url: see offbook health")
    status = await EmbeddedServer(Path(setup.folder or FOLDER)).status()
    idle = not (status["ready"] or status["supervisor"] or status["server"])
    if setup.json:
        emit(status)
    elif idle:
        say("not running: the next command or worker that needs it starts it")
        facts((name, status[name]) for name in ("folder", "log"))
    else:
        facts((name, yes_or_no(value)) for name, value in status.items())
    if not status["ready"]:
        raise Exit(SERVER)


@click.group()
@common
def namespace() -> None:
    """Make a namespace, or look at one."""


@command(name="init")
@click.option("--partitions", type=click.IntRange(1), help="[default: 16]")
@click.option("--shards", type=click.IntRange(1), help="streams of the log [default: 4]")
@click.option("--replicas", type=click.IntRange(1), help="copies, 1, 3 or 5 [default: 1]")
async def namespace_init(setup: Setup, **asked: int | None) -> None:
    """Make the namespace; where it is there, check that it has these settings.

    They are fixed when it is made.
    """
    async with setup.connect(**asked) as client:
        found = client.backend.namespace
    settings = {name: getattr(found, name) for name in ("partitions", "shards", "replicas")}
    if setup.json:
        emit({"namespace": found.name, **settings})
    else:
        facts([("namespace", found.name), *settings.items()])


@command(name="status")
async def namespace_status(setup: Setup) -> None:
    """Tell the settings of the namespace, its runs by status, and its deployments."""
    async with setup.connect() as client:
        found = await client.backend.health()
        lanes = await lanes_of(client)
        counts = Counter([summary.status async for summary in client.runs()])
    settings = {name: found.get(name) for name in _FIXED}
    account: dict[str, Any] = found.get("jetstream") or {}
    settings |= {name: account.get(name) for name in ("storage", "streams")}
    if setup.json:
        shown = [_lane(lane) for lane in lanes.values()]
        emit({**settings, "runs": counts, "deployments": shown})
        return
    runs = ", ".join(f"{number} {status}" for status, number in sorted(counts.items()))
    settings["storage"] = size(settings["storage"])
    facts([*settings.items(), ("runs", runs or "none")])
    _show_lanes(lanes)


@command(name="permissions", useless=("url", "folder", "deployment", "json"))
@click.option("--partitions", type=click.IntRange(1), default=16, show_default=True)
@click.option("--shards", type=click.IntRange(1), default=4, show_default=True)
@click.option("--group", "groups", multiple=True, help="a topic group; may be repeated")
def namespace_permissions(
    setup: Setup, *, partitions: int, shards: int, groups: tuple[str, ...]
) -> None:
    """Print a server's configuration with a user for each role, and what that one may do.

    It asks no server. The settings are those that the namespace is made with.
    """
    from offbook.adapters.nats.permissions import render  # noqa: PLC0415 - seldom wanted

    name = setup.namespace or os.environ.get("OFFBOOK_NAMESPACE") or "offbook"
    click.echo(render(Namespace(name, partitions, shards), groups), nl=False)


server.add_command(server_status)
namespace.add_command(namespace_init)
namespace.add_command(namespace_status)
namespace.add_command(namespace_permissions)
