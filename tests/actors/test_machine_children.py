"""Child runs and attributes in workflow bodies."""

# ruff: noqa: ANN401 - values of any type pass through here

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from offbook.actors import api
from offbook.actors.attributes import check_attributes
from offbook.actors.context import current_body
from offbook.actors.define import workflow
from offbook.actors.errors import (
    ChildConflict,
    InvalidArguments,
    InvalidAttributes,
    InvalidName,
    NotInRun,
    RunCancelled,
    RunFailed,
    RunNotFound,
    RunTerminated,
)
from offbook.actors.machine import Machine
from support.stage import codec, replay, run, shown, staged, usual, variant

start: Any = api.start  # a machine on a stage has no handles: it gives ids


@workflow(name="c.child")
async def child(n: int, m: int = 2) -> str:
    return f"{n}{m}"


def machine() -> Machine:
    found = current_body()
    if found is None:
        raise LookupError
    return found


@variant
async def parent() -> str:
    run_id = await start(child, 1, id="kid", attributes={"a": 1}, retention=60, m=3)
    result = await machine().child_result(run_id)
    return f"{run_id}: {result} {machine().owns_child(run_id)} {machine().owns_child('other')}"


def test_a_child_is_started_and_awaited() -> None:
    with staged(parent, answer=lambda _: ()) as stage:
        [command] = stage.feed("started")
        assert (command.kind, command.name) == ("child", "c.child")
        assert command.data["run"] == "kid"
        assert command.data["attributes"] == {"a": 1}
        assert command.data["retention"] == 60
        assert command.data["detached"] is False
        assert stage.feed("child_started", "0_0") == []
        ended = {"status": "completed", "result": codec.encode("done")}
        assert shown(stage.feed("child_ended", "0_0", **ended)) == ["complete 0_1"]
        assert stage.result == "kid: done True False"
        replay(parent, stage.turns)


def test_an_automatic_id_is_made_of_the_parents() -> None:
    @variant
    async def body() -> list[str]:
        return [await start(child, n) for n in (1, 2)]

    assert run(body) == ["run_1-0_0", "run_1-0_1"]
    [long, _] = run(body, run="r" * 128)
    assert len(long) == 128
    assert long.startswith("rrr")


@pytest.mark.parametrize(
    ("given", "stored"), [({}, None), ({"retention": 60}, 60.0), ({"retention": None}, -1.0)]
)
def test_the_retention_of_a_child_means_what_it_means_at_a_start(
    given: dict[str, Any], stored: float | None
) -> None:
    @variant
    async def body() -> None:
        await start(child, 1, **given)

    with staged(body) as stage:
        [command] = stage.feed("started")
        assert command.data["retention"] == stored


def test_a_bound_workflow_is_started_too() -> None:
    @variant
    async def body() -> Any:
        return await start(child.bind(1, m=5), id="b")

    assert run(body) == "b"


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"status": "failed", "error": codec.encode_error(KeyError("k"))}, RunFailed),
        ({"status": "cancelled", "reason": "no"}, RunCancelled),
        ({"status": "terminated", "reason": None}, RunTerminated),
    ],
    ids=["failed", "cancelled", "terminated"],
)
def test_a_child_that_did_not_return_raises(fields: dict[str, Any], error: type[Exception]) -> None:
    @variant
    async def body() -> str:
        run_id = await start(child, 1)
        try:
            await machine().child_result(run_id)
        except error as found:
            return f"{type(found.__cause__).__name__}: {found}"
        return "no error"

    with staged(body, answer=lambda _: ()) as stage:
        stage.feed("started")
        stage.feed("child_started", "0_0")
        stage.feed("child_ended", "0_0", **fields)
        assert "run_1-0_0" in stage.result
        assert stage.result.startswith("KeyError" if error is RunFailed else "NoneType")


def test_a_taken_id_is_a_conflict() -> None:
    @variant
    async def body() -> str:
        try:
            await start(child, 1, id="taken")
        except ChildConflict as error:
            return error.run
        return "no error"

    with staged(body, answer=lambda _: ()) as stage:
        stage.feed("started")
        stage.feed("child_conflict", "0_0")
        assert stage.result == "taken"


def test_a_cancelled_wait_leaves_the_child_alone() -> None:
    @variant
    async def body() -> str:
        run_id = await start(child, 1)
        try:
            async with asyncio.timeout(5):
                await machine().child_result(run_id)
        except TimeoutError:
            machine().cancel_child(run_id, "too slow")
            machine().cancel_child(run_id, "again")
        try:
            await machine().child_result(run_id)
        except RunCancelled as error:
            return str(error.reason)
        return "no error"

    with staged(body, answer=lambda _: ()) as stage:
        stage.feed("started")
        stage.feed("child_started", "0_0")
        [cancel] = stage.feed("timer_fired", "0_1")
        assert shown([cancel]) == ["cancel_child 0_0"]
        assert cancel.data == {"reason": "too slow"}
        stage.feed("child_ended", "0_0", status="cancelled", reason="too slow")
        assert stage.result == "too slow"


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: start(child), InvalidArguments),
        (lambda: start(child, 1, id="not a name"), InvalidName),
        (lambda: start(child, 1, attributes={"$x": 1}), InvalidAttributes),
        (lambda: machine().child_result("nobody"), RunNotFound),
    ],
)
def test_a_bad_start_raises_and_issues_nothing(call: Any, error: type[BaseException]) -> None:
    @variant
    async def body() -> str:
        try:
            await call()
        except error:
            return "refused"
        return "no error"

    with staged(body) as stage:
        assert shown(stage.feed("started")) == ["complete 0_0"]
        assert stage.result == "refused"


def test_many_children_replay() -> None:
    @variant
    async def body() -> list[Any]:
        async def one(n: int) -> Any:
            return await machine().child_result(await start(child, n))

        return await asyncio.gather(*(one(n) for n in range(10)))

    for seed in range(10):
        assert run(body, order=seed, answer=usual) == ["child's"] * 10


# Attributes


def test_attributes_land_whether_awaited_or_not() -> None:
    @variant
    async def body() -> dict[str, Any]:
        api.set_attributes(phase="one", old=1)
        await api.set_attributes(
            {"phase": "two", "when": datetime(2024, 1, 1, tzinfo=UTC)}, old=None
        )
        return api.current_run().attributes

    with staged(body, attributes={"tenant": "acme"}) as stage:
        stage.feed("started")
        assert shown(stage.commands) == ["attributes 0_0", "attributes 0_1", "complete 0_2"]
        assert stage.commands[1].data == {
            "changes": {"phase": "two", "when": "2024-01-01T00:00:00+00:00", "old": None}
        }
        assert stage.result == {
            "tenant": "acme",
            "phase": "two",
            "when": "2024-01-01T00:00:00+00:00",
        }


def test_attributes_set_elsewhere_are_seen() -> None:
    @variant
    async def body() -> dict[str, Any]:
        await asyncio.sleep(1)
        return api.current_run().attributes

    with staged(body, answer=lambda _: ()) as stage:
        stage.feed("started")
        stage.feed("attributes_set", changes={"by": "a step", "gone": None}, writer="s")
        stage.feed("timer_fired", "0_0")
        assert stage.result == {"by": "a step"}


def test_current_run_tells_who_is_asking() -> None:
    @variant
    async def body() -> list[Any]:
        async def below() -> Any:
            return api.current_run()

        info = await asyncio.create_task(below())
        return [info.id, info.workflow, info.deployment]

    assert run(body) == ["run_1", "variant.body", "default"]
    with pytest.raises(NotInRun):
        api.current_run()
    with pytest.raises(NotInRun, match=r"outside, use client\.topic"):
        api.topic("words")
    with pytest.raises(NotInRun):
        api.set_attributes(a=1)


FULL = {f"k{n}": n for n in range(64)}


@pytest.mark.parametrize(
    ("changes", "current", "rule"),
    [
        ({"": 1}, {}, "256 characters"),
        ({"k" * 257: 1}, {}, "256 characters"),
        ({"$own": 1}, {}, "reserved"),
        ({"a": "é" * 129}, {}, "256 bytes"),
        ({"a": "\ud800"}, {}, "256 bytes"),
        ({"a": datetime(2024, 1, 1)}, {}, "aware"),  # noqa: DTZ001 - the test
        ({"a": float("nan")}, {}, "finite"),
        ({"a": 2**63}, {}, "64 bits"),
        ({"a": [1]}, {}, "not list"),
        ({"a": b"x"}, {}, "not bytes"),
        ({"new": 1}, FULL, "64 attributes"),
        ({f"k{n}": "v" * 256 for n in range(32)}, {}, "8192 bytes"),
    ],
)
def test_attributes_have_rules(changes: Any, current: Any, rule: str) -> None:
    with pytest.raises(InvalidAttributes, match=rule):
        check_attributes(changes, current)


@pytest.mark.parametrize(
    ("changes", "current"),
    [
        ({"k" * 256: "é" * 128}, {}),
        ({"new": 1, "k0": None}, FULL),
        ({"k0": 7}, FULL),
        ({"a": True, "b": 0.5, "c": -(2**63), "d": "", "e": None}, {}),
    ],
)
def test_attributes_within_the_rules_pass(changes: Any, current: Any) -> None:
    assert check_attributes(changes, current) == changes


def test_reserved_keys_are_for_the_runtime() -> None:
    assert check_attributes({"$x": 1}, {}, reserved=True) == {"$x": 1}
