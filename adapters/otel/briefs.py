"""Names, keys and attributes of the spans, from what the runtime tells."""

from collections.abc import Iterator, Mapping
from typing import Any

from opentelemetry.trace import SpanKind

from offbook.actors.model import Head
from offbook.actors.ports import Attempt, Passage

from .spans import Brief

_Values = dict[str, str | int | float | bool]


def start(head: Head) -> Brief:
    """Describe the short span that marks a start."""
    return Brief(head.run, ("start",), f"workflow.start {head.workflow}", _run(head), head.at)


def attempt(told: Attempt, queued: float) -> Brief:
    """Describe an attempt that begins now, after `queued` seconds."""
    attributes: _Values = {
        "workflow.name": told.workflow,
        "workflow.run.id": told.run,
        "step.id": told.step,
        "step.name": told.name,
        "step.attempt": told.attempt,
        "step.queue": told.queue,
        "step.remote": told.remote,
        "step.queue_time": round(queued, 6),
    }
    key = ("step", told.step, str(told.attempt))
    return Brief(told.run, key, f"step.execute {told.name}", attributes)


def root(head: Head, facts: Mapping[str, Any]) -> Brief:
    """Describe the span of the whole run."""
    attributes = _run(head) | {
        "workflow.run.status": str(facts["status"]),
        "workflow.deployment": head.deployment,
        "workflow.records.count": int(facts.get("records") or 0),
        "gen_ai.operation.name": "invoke_workflow",
        "gen_ai.workflow.name": head.workflow,
    }
    conversation = head.attributes.get("conversation")
    if isinstance(conversation, str):
        attributes["gen_ai.conversation.id"] = conversation
    return Brief(head.run, ("root",), f"invoke_workflow {head.workflow}", attributes, head.at)


def turn(head: Head, facts: Mapping[str, Any]) -> Iterator[tuple[Brief, int]]:
    """Describe the spans that a turn ended, each with its end in microseconds."""
    for wait in facts.get("waits", ()):
        yield _wait(head, wait), max(wait["started"], wait["ended"])
    for lost in facts.get("lost", ()):
        yield _lost(head, lost), max(lost["started"], lost["ended"])
    for passage in facts.get("spans", ()):
        yield _passage(head, passage), max(passage.began, passage.ended)
    if facts.get("n") == 1 or facts.get("replayed"):
        yield _activation(head, facts)


def _run(head: Head) -> _Values:
    return {"workflow.name": head.workflow, "workflow.run.id": head.run}


def _wait(head: Head, wait: Mapping[str, Any]) -> Brief:
    kind, key = str(wait["kind"]), str(wait["id"])
    attributes = _run(head) | {
        "workflow.wait.id": key,
        "workflow.wait.kind": kind,
        "workflow.wait.name": str(wait.get("name") or ""),
    }
    return Brief(head.run, ("wait", key), f"workflow.wait {kind}", attributes, wait["started"])


def _passage(head: Head, told: Passage) -> Brief:
    attributes = _run(head) | told.attributes
    if told.fault:
        attributes["error.type"] = told.fault
    kind = SpanKind[told.kind.upper()]
    key = ("span", told.id)
    return Brief(head.run, key, told.name, attributes, told.began, told.fault, kind)


def _lost(head: Head, lost: Mapping[str, Any]) -> Brief:
    step, number, name = str(lost["id"]), int(lost["attempt"]), str(lost["name"])
    attributes = _run(head) | {
        "step.id": step,
        "step.name": name,
        "step.attempt": number,
        "step.status": "lost",
        "error.type": "lost",
    }
    key = ("step", step, str(number))
    fault = "its worker was gone before it ended"
    return Brief(head.run, key, f"step.execute {name}", attributes, lost["started"], fault)


def _activation(head: Head, facts: Mapping[str, Any]) -> tuple[Brief, int]:
    n, at = int(facts["n"]), int(facts["at"])
    attributes = _run(head) | {
        "workflow.turn": n,
        "workflow.events.count": int(facts.get("events", 0)),
        "workflow.replay.events": int(facts.get("replayed", 0)),
        "workflow.worker": str(facts.get("worker", "")),
        "workflow.epoch": int(facts.get("epoch", 0)),
    }
    began = at - int(facts.get("replay_seconds", 0) * 1e6)
    name = f"workflow.execute {head.workflow}"
    brief = Brief(head.run, ("execute", str(n)), name, attributes, began)
    return brief, at + int(facts.get("commit_seconds", 0) * 1e6)
