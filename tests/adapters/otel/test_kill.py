"""The trace of a run survives kill -9, as a real OTLP receiver sees it."""

import asyncio
import json
import signal
import sys
from pathlib import Path

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from support.otlp import receiver

PLAYER = Path(__file__).with_name("player.py")


async def spawn(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, str(PLAYER), *arguments, stdout=asyncio.subprocess.PIPE
    )


async def kill_in_step(endpoint: str) -> dict[str, str]:
    """Play the first act, kill it inside step b, and return the trace context of the head."""
    process = await spawn("first", endpoint)
    if process.stdout is None:
        raise RuntimeError("no pipe")
    context: dict[str, str] = json.loads(await process.stdout.readline())
    process.kill()
    assert await process.wait() == -signal.SIGKILL
    return context


async def play(act: str) -> list[Span]:
    async with receiver() as found:
        context = await kill_in_step(found.endpoint)
        process = await spawn(act, found.endpoint, json.dumps(context))
        assert await process.wait() == 0
        await found.wait_for("invoke_workflow checkout")
        return found.spans


@pytest.mark.parametrize(
    ("act", "attempts"),
    [("again", {("a", 1), ("b", 1)}), ("anew", {("a", 1), ("b", 1), ("b", 2)})],
)
async def test_a_run_killed_inside_an_attempt_is_one_whole_trace(
    act: str, attempts: set[tuple[str, int]]
) -> None:
    spans = await play(act)
    assert len({span.trace_id for span in spans}) == 1
    by_id = {span.span_id: span for span in spans}
    (root,) = [span for span in by_id.values() if not span.parent_span_id]
    assert root.name == "invoke_workflow checkout"
    assert {span.parent_span_id for span in spans if span is not root} - {b""} <= set(by_id)
    steps = {span.span_id: keys(span) for span in spans if span.name.startswith("step.execute")}
    assert set(steps.values()) == attempts
    assert len(steps) == len(attempts)
    users = {span.name: steps[span.parent_span_id] for span in spans if "bank" in span.name}
    assert users == {
        "bank a1": ("a", 1),
        "bank b1 killed": ("b", 1),
        "bank b1" if act == "again" else "bank b2": ("b", 1 if act == "again" else 2),
    }


def keys(span: Span) -> tuple[str, int]:
    found = {item.key: item.value for item in span.attributes}
    return found["step.id"].string_value, found["step.attempt"].int_value
