"""Texts that meet a newcomer: they name what the newcomer wrote, and the way out."""

import gc
import warnings

import pytest

import offbook
from offbook import HookNotFound, InvalidOption, NotInWorkflowBody, RunFailed, step, workflow
from offbook.testing import Environment, run


@step(name="texts.double")
async def double(number: int) -> int:
    return number * 2


@workflow
async def forgets() -> None:
    _ = double(2)
    del _


@workflow
async def connects() -> None:
    async with offbook.connect():
        pass


@workflow
async def raises_its_own() -> None:
    class OfMine(Exception):
        """A class that no table holds."""

    raise OfMine("so it is")


@workflow
async def counts(number: int) -> int:
    return number


def test_a_step_that_is_not_awaited_is_named_by_python() -> None:
    async def main() -> None:
        async with Environment() as env:
            await (await env.client.start(forgets)).result()

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run(main())
        gc.collect()
    told = [str(w.message) for w in caught if "never awaited" in str(w.message)]
    assert told == ["coroutine 'step texts.double' was never awaited"]


def test_an_error_without_a_text_is_named_without_a_colon_behind_it() -> None:
    assert str(RunFailed("r", TimeoutError())) == "run 'r' failed: TimeoutError"
    assert str(RunFailed("r", TimeoutError("late"))) == "run 'r' failed: TimeoutError: late"


def test_a_body_that_connects_is_told_what_to_use() -> None:
    async def main() -> None:
        async with Environment() as env:
            handle = await env.client.start(connects)
            with pytest.raises(RunFailed) as caught:
                await handle.result()
            assert isinstance(caught.value.cause, NotInWorkflowBody)
            assert "offbook.start" in str(caught.value.cause)

    run(main())


def test_a_workflow_that_was_called_is_told_how_to_be_passed() -> None:
    async def main() -> None:
        async with Environment() as env:
            with pytest.raises(InvalidOption, match="not called with them"):
                await env.client.start(counts(3))  # type: ignore[call-overload] # pyright: ignore[reportCallIssue, reportArgumentType] - the mistake that is tested

    run(main())


def test_a_hook_that_is_not_open_yet_is_among_the_causes() -> None:
    assert "has not opened it yet" in str(HookNotFound())


def test_a_class_that_only_a_body_knows_is_not_said_to_be_a_step_s() -> None:
    async def main() -> None:
        async with Environment() as env:
            handle = await env.client.start(raises_its_own)
            with pytest.raises(RunFailed, match=r"the workflow raised .*OfMine: so it is"):
                await handle.result()

    run(main())
