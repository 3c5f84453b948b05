"""What is told of a run that does not go on: it is blocked, or nobody serves it."""

import asyncio

import pytest

from offbook import Run, hook, workflow
from offbook.ops.cli.failures import TIMEOUT, Failure
from offbook.ops.cli.hints import lacking, obstacle_of
from offbook.ops.cli.runs import waited
from offbook.ops.cli.setup import Setup
from offbook.testing import Environment, run


@workflow
async def stuck() -> None:
    await asyncio.Event().wait()


@workflow
async def patient() -> None:
    await hook(bool, token="hints")


async def late(env: Environment, handle: Run[None], setup: Setup) -> Failure:
    with pytest.raises(Failure) as caught:
        await waited(setup, env.client, handle, 10.0, "shop")
    assert caught.value.exit_code == TIMEOUT
    return caught.value


def test_waiting_for_a_blocked_run_tells_why_once_and_goes_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def main() -> Failure:
        async with Environment() as env:
            return await late(env, await env.client.start(stuck, id="s"), Setup())

    failure = run(main())
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert told[0].startswith("note: run 's' is blocked (stuck): ")
    assert told[0].endswith("see offbook show s")
    assert "has not ended after 10 s: run 's' is blocked (stuck)" in str(failure)
    assert failure.more == {"run": "s", "status": "blocked"}


def test_waiting_for_a_run_that_nobody_serves_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    async def main() -> Failure:
        async with Environment(workers=0) as env:
            return await late(env, await env.client.start(patient), Setup())

    failure = run(main())
    cure = "no live worker serves deployment 'default'; start one: offbook worker shop"
    assert capsys.readouterr().err == f"note: {cure}\n"
    assert str(failure).endswith(cure)
    assert failure.more["status"] == "unserved"


def test_a_worker_of_another_deployment_is_no_help() -> None:
    async def main() -> dict[str, list[str]]:
        async with Environment() as env:
            here = await env.client.start(patient, id="here")
            there = await env.client.start(patient, id="there", deployment="next")
            assert await obstacle_of(env.client, here.id) is None
            return await lacking(env.client, [here.id, there.id, "nobody"])

    assert run(main()) == {"next": ["there"]}


def test_with_json_nothing_but_the_error_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    async def main() -> Failure:
        async with Environment(workers=0) as env:
            return await late(env, await env.client.start(patient), Setup(json=True))

    assert "no live worker" in str(run(main()))
    assert capsys.readouterr().err == ""
