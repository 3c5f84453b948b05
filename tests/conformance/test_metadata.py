"""Metadata: what a workflow body and a step know of themselves."""

from contextvars import ContextVar
from dataclasses import fields, replace
from typing import Any

import pytest

from offbook import (
    NotInRun,
    Retry,
    RunFailed,
    RunInfo,
    StepContext,
    current_run,
    current_step,
    register,
    step,
    workflow,
)
from support.worlds import CatalogueEnvironment

register(RunInfo)


def _facts_of_step(context: StepContext) -> dict[str, Any]:
    return {
        "id": context.id,
        "name": context.name,
        "attempt": context.attempt,
        "started_at": context.started_at,
        "key": context.key,
    }


@step(retry=Retry(attempts=3, first=0.01))
async def know_thyself() -> dict[str, Any]:
    if current_step().attempt < 2:
        raise ValueError("once more")
    return {"run": current_run(), "inner": current_step().run} | _facts_of_step(current_step())


@workflow
async def metadata() -> list[Any]:
    try:
        current_step()
    except NotInRun as error:
        refused = str(error)
    else:
        refused = ""
    return [current_run(), await know_thyself(), await know_thyself(), refused]


async def test_metadata_same_in_workflow_and_step(env: CatalogueEnvironment) -> None:
    run = await env.client.start(metadata, attributes={"tenant": "acme"})
    info, first, second, refused = await run.result()
    assert first["run"] == first["inner"] == second["run"] == info
    assert (info.id, info.workflow, info.deployment) == (run.id, metadata.name, "default")
    view = await run.view()
    assert info.started_at == view.created_at
    assert info.attributes == {"tenant": "acme"}
    assert (info.parent, info.root) == (None, None)
    assert [first["name"], first["attempt"]] == [know_thyself.name, 2]
    assert [first["id"], second["id"]] == [s.id for s in view.steps]
    assert first["id"] != second["id"]
    assert [first["key"], second["key"]] == [f"{run.id}:{s.id}" for s in view.steps]
    assert [first["started_at"], second["started_at"]] == [s.scheduled_at for s in view.steps]
    assert "current_step() works only inside a step" in refused
    shared = {f.name for f in fields(RunInfo)} & {f.name for f in fields(StepContext)}
    assert shared == {"id", "started_at"}


async def test_metadata_is_unknown_outside(env: CatalogueEnvironment) -> None:
    assert env.client.is_open
    with pytest.raises(NotInRun):
        current_run()
    with pytest.raises(NotInRun):
        current_step()
    with pytest.raises(NotInRun):
        await know_thyself()


def whose_run() -> str:
    return current_run().id


async def whose_step() -> str:
    return current_step().id


@step
async def ask_below() -> list[str]:
    return [whose_run(), await whose_step()]


@step
def ask_below_in_a_thread() -> list[str]:
    return [whose_run(), current_step().id]


@workflow
async def metadata_from_below() -> list[Any]:
    return [whose_run(), await ask_below(), await ask_below_in_a_thread()]


async def test_metadata_from_module_level_function(env: CatalogueEnvironment) -> None:
    run = await env.client.start(metadata_from_below)
    steps = await run.result(), (await run.view()).steps
    assert steps[0] == [run.id, [run.id, steps[1][0].id], [run.id, steps[1][1].id]]


@workflow
async def change_metadata() -> None:
    replace(current_run(), id="other")
    current_run().id = "other"  # type: ignore[misc] # pyright: ignore[reportAttributeAccessIssue]


async def test_metadata_cannot_be_changed(env: CatalogueEnvironment) -> None:
    run = await env.client.start(change_metadata)
    with pytest.raises(RunFailed) as caught:
        await run.result()
    assert isinstance(caught.value.cause, AttributeError)


marker: ContextVar[str] = ContextVar("marker", default="clean")


@step
async def leave_a_mark(name: str) -> str:
    found = marker.get()
    marker.set(name)
    return found


@workflow
async def leave_marks() -> list[str]:
    first = await leave_a_mark("first")
    inner = marker.get()
    marker.set("body")
    return [first, inner, await leave_a_mark("second"), marker.get()]


async def test_context_variables_stay_where_they_are_set(env: CatalogueEnvironment) -> None:
    """A step sees nothing of the step before it, the body nothing of its steps."""
    run = await env.client.start(leave_marks)
    assert await run.result() == ["clean", "clean", "clean", "body"]
