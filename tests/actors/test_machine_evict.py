"""Runs leave memory without a trace, and without touching other runs."""

# ruff: noqa: ANN401 - values of any type pass through here

import asyncio
import gc
import logging
import weakref
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest

from offbook.actors import api
from offbook.actors.define import step
from offbook.actors.model import Event
from support.stage import completed, machine_of, shown, staged, variant


@step(name="e.work")
async def work(name: str) -> str:
    return name


async def _undo(name: str, log: list[str]) -> None:
    try:
        await work(name)
    finally:
        log.append(f"undo {name}")
        await work(f"undo {name}")
        log.append("never")


def test_evict_closes_tasks_newest_first_and_drops_what_they_ask_for() -> None:
    log: list[str] = []

    @variant
    async def body() -> None:
        await asyncio.gather(_undo("a", log), _undo("b", log))

    machine = machine_of(body)
    machine.feed(Event("started"), 1)
    machine.evict()
    machine.evict()
    assert log == ["undo b", "undo a"]
    assert machine.take_issued() == []
    assert machine.feed(Event("cancel_requested", data={"reason": None}), 2) == []


def test_clean_up_code_cannot_keep_an_evicted_run_alive() -> None:
    log: list[str] = []

    @variant
    async def body() -> None:
        while True:
            try:
                await work("a")
            except BaseException as error:
                log.append(type(error).__name__)
                if len(log) > 9:
                    raise

    machine = machine_of(body)
    machine.feed(Event("started"), 1)
    machine.evict()
    assert 1 <= len(log) <= 10
    assert log[0] == "Evicted"


async def _catches_all(ask: Any) -> None:
    while True:
        with suppress(BaseException):
            await ask()


@pytest.mark.parametrize(
    "ask",
    [
        lambda: work("x"),
        lambda: asyncio.sleep(1),
        api.hook,
        lambda: asyncio.create_task(asyncio.sleep(1)),
        lambda: asyncio.gather(work("x"), work("y")),
        lambda: asyncio.wait_for(asyncio.Event().wait(), 5),
    ],
    ids=["step", "sleep", "hook", "task", "gather", "wait_for"],
)
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
def test_a_body_that_catches_everything_for_ever_leaves_memory(
    ask: Any, caplog: pytest.LogCaptureFixture
) -> None:
    @variant
    async def body() -> None:
        await _catches_all(ask)

    machine = machine_of(body)
    machine.feed(Event("started"), 1)
    machine.evict()
    assert machine.take_issued() == []
    [record] = caplog.records
    assert "run run_1 left memory, but 0" in record.getMessage()
    del machine
    gc.collect()


def test_an_async_generator_that_catches_everything_for_ever_leaves_memory(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def pages() -> AsyncIterator[int]:
        yield 1
        await _catches_all(lambda: asyncio.sleep(1))

    async def stubborn() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await _catches_all(lambda: asyncio.sleep(1))

    @variant
    async def body() -> None:
        held = stubborn()
        await anext(held)
        async for _ in pages():
            pass

    machine = machine_of(body)
    machine.feed(Event("started"), 1)
    machine.evict()
    [record] = caplog.records
    assert "but 0, pages, stubborn would not end" in record.getMessage()
    del machine
    gc.collect()


@pytest.mark.parametrize(
    "ask",
    [
        lambda: work("x"),
        lambda: asyncio.sleep(1),
        api.hook,
        lambda: asyncio.create_task(asyncio.sleep(0)),
        lambda: asyncio.gather(work("x"), work("y")),
        lambda: api.set_attributes(a=1),
    ],
    ids=["step", "sleep", "hook", "task", "gather", "attributes"],
)
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
def test_nothing_can_be_asked_for_while_a_run_leaves_memory(ask: Any) -> None:
    @variant
    async def body() -> None:
        try:
            await work("a")
        finally:
            await ask()

    machine = machine_of(body)
    machine.feed(Event("started"), 1)
    machine.evict()
    assert machine.take_issued() == []
    gc.collect()


def test_async_generators_of_an_evicted_run_are_closed_at_once() -> None:
    log: list[str] = []

    async def pages(name: str) -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            log.append(name)

    @variant
    async def body() -> None:
        held = [pages("a"), pages("b")]
        for generator in held:
            await anext(generator)
        await work("x")

    machine = machine_of(body)
    machine.feed(Event("started"), 1)
    machine.evict()
    assert log == ["b", "a"]


def test_an_async_generator_that_waits_is_closed_with_its_task() -> None:
    log: list[str] = []

    async def pages() -> AsyncIterator[str]:
        try:
            yield await work("page")
        finally:
            log.append("closing")
            await work("undo")

    @variant
    async def body() -> None:
        async for page in pages():
            log.append(page)  # noqa: PERF401 - the loop is the test

    machine = machine_of(body)
    machine.feed(Event("started"), 1)
    machine.evict()
    assert log == ["closing"]
    assert machine.take_issued() == []


def test_an_evicted_run_is_freed_without_the_collector() -> None:
    class Probe:
        pass

    probes: list[weakref.ref[Probe]] = []

    @variant
    async def body() -> None:
        probe = Probe()
        probes.append(weakref.ref(probe))
        await asyncio.gather(work("a"), asyncio.sleep(60))
        del probe

    gc.disable()
    try:
        machine = machine_of(body)
        machine.feed(Event("started"), 1)
        assert probes[0]() is not None
        machine.evict()
        assert probes[0]() is None
    finally:
        gc.enable()


def test_an_evicted_run_is_silent(caplog: pytest.LogCaptureFixture) -> None:
    @variant
    async def body() -> None:
        await asyncio.gather(work("a"), asyncio.Event().wait())

    with caplog.at_level(logging.DEBUG):
        machine = machine_of(body)
        machine.feed(Event("started"), 1)
        machine.evict()
        del machine
        gc.collect()
    assert not caplog.records


def test_collection_during_a_turn_of_another_run_changes_nothing() -> None:
    log: list[str] = []

    @variant
    async def body() -> None:
        await _undo("a", log)

    @variant
    async def other() -> str:
        gc.collect()
        await work("mine")
        gc.collect()
        return "done"

    for _ in range(20):
        machine = machine_of(body)
        machine.feed(Event("started"), 1)
        machine.evict()
        del machine
    with staged(other, run="run_2") as stage:
        [command] = stage.feed("started")
        assert shown([command]) == ["step work 0_0"]
        assert shown(stage.take(completed(command, "x"))) == ["complete 0_1"]
    assert log == ["undo a"] * 20


def test_a_turn_runs_without_the_collector_and_leaves_it_as_it_was() -> None:
    seen: list[bool] = []

    @variant
    async def body() -> None:
        seen.append(gc.isenabled())

    with staged(body) as stage:
        stage.play()
    assert seen == [False]
    assert gc.isenabled()


def test_an_interrupt_leaves_the_feed() -> None:
    @variant
    async def body() -> None:
        raise KeyboardInterrupt

    machine = machine_of(body)
    with pytest.raises(KeyboardInterrupt):
        machine.feed(Event("started"), 1)
    machine.evict()
    assert machine.ended is None
    assert gc.isenabled()
