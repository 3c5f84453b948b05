"""`offbook.span`: parts of steps and of bodies, each written once."""

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.trace import StatusCode

from offbook import FatalError, InvalidOption, sleep, span, step, workflow
from offbook.adapters.log import Observers
from offbook.adapters.otel import OtelObserver
from offbook.testing import Environment, run

if TYPE_CHECKING:
    from .conftest import World


@step(name="parts.bake")
async def bake(what: str) -> str:
    with span("mix", {"bowl": "big"}, kind="client") as part:
        part.set({"eggs": 3, "milk": None})
        with span("stir"):
            return what


@step
def burn() -> None:
    with span("oven"):
        heat = "hot"
        raise FatalError(f"too {heat}")


@workflow(name="parts.breakfast")
async def breakfast() -> str:
    with span("morning", {"day": "sunday"}) as whole:
        await bake("bread")
        await sleep(60)
        whole.set({"loaves": 1})
        try:
            with span("grill"):
                await burn()
        except FatalError:
            return "toast"
    return "cereal"


async def play(world: "World", **options: Any) -> None:  # noqa: ANN401 - of Environment
    observer = Observers([OtelObserver(world.tracing)])
    async with Environment(observer=observer, **options) as env:
        assert await (await env.client.start(breakfast, id="b")).result() == "toast"


@pytest.mark.parametrize("always_suspend", [False, True])
def test_each_part_is_written_once_in_its_place(world: "World", always_suspend: bool) -> None:  # noqa: FBT001
    run(play(world, always_suspend=always_suspend))
    mix, stir, morning = world.span("mix"), world.span("stir"), world.span("morning")
    attempt = world.span("step.execute parts.bake")
    assert mix.parent
    assert mix.parent.span_id == attempt.context.span_id
    assert stir.parent
    assert stir.parent.span_id == mix.context.span_id
    assert mix.attributes == {"bowl": "big", "eggs": 3}
    root = world.span("invoke_workflow parts.breakfast")
    assert morning.parent
    assert morning.parent.span_id == root.context.span_id
    assert morning.attributes["loaves"] == 1
    assert morning.end_time - morning.start_time >= 60 * 10**9


def test_an_error_that_leaves_a_part_marks_it_without_its_text(world: "World") -> None:
    run(play(world))
    for name in ("oven", "grill"):
        failed = world.span(name)
        assert failed.status.status_code is StatusCode.ERROR
        assert "FatalError" in str(failed.attributes["error.type"])
        assert "too hot" not in failed.text


async def test_outside_of_runs_a_part_is_nothing() -> None:
    with pytest.raises(InvalidOption), span("x", kind="odd"):
        pass
    with span("x") as part:
        part.set({"a": 1})
        await asyncio.sleep(0)
    assert repr(part) == "<Span x>"
