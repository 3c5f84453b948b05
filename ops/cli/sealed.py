"""What `offbook show` tells of a run whose payloads are sealed with a key that is not here."""

from dataclasses import fields
from typing import Any

from offbook.actors.again import patiently
from offbook.actors.client import Client
from offbook.actors.errors import CipherError
from offbook.actors.model import moment
from offbook.actors.run import RunView
from offbook.actors.summary import Summary, read_summary

from .output import clock, due, emit, facts, say, since
from .setup import Setup

SEALED = "sealed"


async def show_sealed(setup: Setup, client: Client, run: str, error: CipherError) -> None:
    """Show what the list of runs has of a run in the clear.

    Raises:
        CipherError: it has nothing of it.
    """
    entry = await patiently(lambda: client.backend.runs.get(run), "reading a run")
    summary = None if entry is None else read_summary(entry.value)
    if summary is None:
        raise error
    if setup.json:
        emit(document(summary, str(error)))
    else:
        facts(_head(summary))
        say()
        facts(_waits(summary))
        say(f"the rest is sealed: {error}")


def document(summary: Summary, why: str) -> dict[str, Any]:
    """Return what `--json` shows: what is sealed is null, and `sealed` says why."""
    waits = [wait.partition(" ") for wait in summary.waits]
    known: dict[str, Any] = {
        "id": summary.id,
        "workflow": summary.workflow,
        "status": summary.status,
        "deployment": summary.deployment,
        "created_at": moment(summary.created),
        "ended_at": None if summary.ended is None else moment(summary.ended),
        "attributes": summary.attributes,
        "parent": summary.parent,
        "root": summary.root,
        "reason": summary.reason,
        "detail": summary.detail,
        "records": summary.n,
        "waits": [{"kind": kind, "id": name} for kind, _, name in waits],
    }
    names = (*(f.name for f in fields(RunView)), "children", "where", "where_note")
    return {name: known.get(name) for name in names} | {SEALED: why}


def _head(summary: Summary) -> list[tuple[str, object]]:
    created, ended = moment(summary.created), summary.ended
    return [
        ("run", summary.id),
        ("workflow", summary.workflow),
        ("status", summary.status),
        ("reason", summary.reason),
        ("deployment", summary.deployment),
        ("created", f"{clock(created)} ({since(created)} ago)"),
        ("ended", None if ended is None else clock(moment(ended))),
        ("attributes", " ".join(f"{k}={v}" for k, v in summary.attributes.items())),
        ("parent", summary.parent),
        ("root", summary.root if summary.root != summary.id else None),
        ("records", summary.n),
        ("input", SEALED),
        ("output", SEALED if summary.status == "completed" else None),
        ("error", SEALED if summary.status == "failed" else None),
    ]


def _waits(summary: Summary) -> list[tuple[str, object]]:
    wake = None if summary.next_wake is None else moment(summary.next_wake)
    return [
        ("waits for", "\n".join(summary.waits)),
        ("next wake", None if wake is None else f"{due(wake)} ({clock(wake)})"),
        ("steps", SEALED),
    ]
