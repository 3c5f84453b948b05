"""Attributes."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from offbook import (
    InvalidAttributes,
    Run,
    RunEvent,
    RunFailed,
    current_run,
    set_attributes,
    step,
    workflow,
)
from support.worlds import CatalogueEnvironment


async def changes_of(run: Run[Any]) -> list[RunEvent]:
    """Return the events that changed the attributes of a run."""
    return [event async for event in run.events() if event.type == "attributes_set"]


async def attributes_of(run: Run[Any]) -> dict[str, Any]:
    """Wait for the result of a run and return its attributes."""
    await run.result()
    return (await run.view()).attributes


@workflow
async def add_to_seeds() -> dict[str, Any]:
    await set_attributes(phase="done", extra=1)
    return current_run().attributes


async def test_attributes_seeded_at_start(env: CatalogueEnvironment) -> None:
    born = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    seeds = {"tenant": "acme", "phase": "new", "size": 3, "vip": True, "born": born}
    run = await env.client.start(add_to_seeds, attributes=seeds)
    merged = {**seeds, "born": born.isoformat(), "phase": "done", "extra": 1}
    assert await run.result() == merged
    assert (await run.view()).attributes == merged
    found = [s async for s in env.client.runs(attributes={"tenant": "acme", "size": 3})]
    assert [s.id for s in found] == [run.id]
    assert [s async for s in env.client.runs(attributes={"tenant": "other"})] == []


async def test_reserved_attributes_with_flag(env: CatalogueEnvironment) -> None:
    seeds = {"$source": "import", "phase": "new"}
    run = await env.client.start(add_to_seeds, attributes=seeds, allow_reserved=True)
    expected = {"$source": "import", "phase": "done", "extra": 1}
    assert await attributes_of(run) == expected


@workflow
async def set_three_times() -> dict[str, Any]:
    await set_attributes(phase="first", source="web", note="kept")
    await set_attributes({"phase": "second"})
    await set_attributes(phase="third", source=None)
    return current_run().attributes


async def test_attributes_set_in_workflow(env: CatalogueEnvironment) -> None:
    run = await env.client.start(set_three_times)
    assert await attributes_of(run) == {"phase": "third", "note": "kept"} == await run.result()
    assert [event.data["changes"] for event in await changes_of(run)] == [
        {"phase": "first", "source": "web", "note": "kept"},
        {"phase": "second"},
        {"phase": "third", "source": None},
    ]


@step
async def mark(**changes: object) -> None:
    await set_attributes(**changes)


@workflow
async def set_in_step() -> dict[str, Any]:
    await mark(phase="in step", count=2)
    return current_run().attributes


async def test_attributes_set_in_step(env: CatalogueEnvironment) -> None:
    run = await env.client.start(set_in_step)
    assert await attributes_of(run) == {"phase": "in step", "count": 2} == await run.result()
    (event,) = await changes_of(run)
    (found,) = (await run.view()).steps
    assert event.data["writer"] == {"step": found.id, "attempt": 1}


@workflow
async def set_and_forget() -> str:
    async def later() -> None:
        await set_attributes(by="task")

    task = asyncio.create_task(later())
    set_attributes(by_call="yes")  # pyright: ignore[reportUnusedCoroutine]
    forgotten = asyncio.ensure_future(set_attributes(by_future="yes"))
    await asyncio.sleep(0)
    return f"{task.done()} {forgotten.done()}"


async def test_attributes_set_without_await(env: CatalogueEnvironment) -> None:
    run = await env.client.start(set_and_forget)
    assert await attributes_of(run) == {"by": "task", "by_call": "yes", "by_future": "yes"}


@workflow
async def set_from_everywhere() -> None:
    async def one(index: int) -> None:
        await set_attributes({f"task{index}": index})

    tasks = [one(i) for i in range(4)]
    await asyncio.gather(*tasks, *(mark(**{f"step{i}": i}) for i in range(4)))


async def test_attributes_disjoint_parallel_sets(env: CatalogueEnvironment) -> None:
    run = await env.client.start(set_from_everywhere)
    expected = {f"task{i}": i for i in range(4)} | {f"step{i}": i for i in range(4)}
    assert await attributes_of(run) == expected
    assert len(await changes_of(run)) == 8


@step(retry=0)
async def mark_and_fail() -> None:
    await set_attributes(left_by="the step")
    raise ValueError("after the mark")


@workflow
async def set_then_fail() -> None:
    await set_attributes(left_by_body=True)
    await mark_and_fail()


async def test_attributes_kept_on_failed_run(env: CatalogueEnvironment) -> None:
    run = await env.client.start(set_then_fail)
    with pytest.raises(RunFailed):
        await run.result()
    view = await run.view()
    assert view.status == "failed"
    assert view.attributes == {"left_by_body": True, "left_by": "the step"}


INVALID: dict[str, tuple[Any, str]] = {
    "reserved": ({"$mine": "x"}, "reserved"),
    "empty": ({"": "x"}, "1 to 256 characters"),
    "long key": ({"k" * 257: "x"}, "1 to 256 characters"),
    "long value": ({"k": "v" * 257}, "256 bytes"),
    "two-byte characters": ({"k": "é" * 200}, "256 bytes"),
    "too many": ({f"k{i}": i for i in range(65)}, "64 attributes"),
    "no mapping": (["k", "v"], "mapping"),
    "no value": ({"k": ["nested"]}, "a value is text"),
    "naive": ({"k": datetime(2026, 1, 1)}, "aware"),  # noqa: DTZ001 - it is the case
}


@step(retry=0)
async def set_invalid(name: str) -> None:
    await set_attributes(INVALID[name][0])


@workflow
async def catch_invalid() -> list[list[str]]:
    caught: list[list[str]] = []
    for name in INVALID:
        try:
            await set_attributes(INVALID[name][0])
        except InvalidAttributes as error:
            caught.append([name, str(error)])
        try:
            await set_invalid(name)
        except InvalidAttributes as error:
            caught.append([name, str(error)])
    return caught


async def test_invalid_attributes_catchable(env: CatalogueEnvironment) -> None:
    run = await env.client.start(catch_invalid)
    caught = await run.result()
    assert [name for name, _ in caught] == [name for name in INVALID for _ in range(2)]
    for name, message in caught:
        assert INVALID[name][1] in message
    assert await changes_of(run) == []
    assert (await run.view()).attributes == {}


@workflow
async def one_too_many() -> str:
    await set_attributes({f"k{i}": i for i in range(64)})
    await set_attributes(k1=None, k64=64)
    try:
        await mark(k65=65)
    except InvalidAttributes as error:
        return str(error)
    return "written"


async def test_attribute_limit_holds_over_calls(env: CatalogueEnvironment) -> None:
    run = await env.client.start(one_too_many)
    assert "64 attributes" in await run.result()
    view = await run.view()
    assert len(view.attributes) == 64
    assert [s.attempt for s in view.steps] == [1]


@pytest.mark.parametrize("case", INVALID)
async def test_invalid_start_attributes(env: CatalogueEnvironment, case: str) -> None:
    with pytest.raises(InvalidAttributes, match=INVALID[case][1]):
        await env.client.start(add_to_seeds, id="never", attributes=INVALID[case][0])
    assert not await env.client.run("never").exists()
