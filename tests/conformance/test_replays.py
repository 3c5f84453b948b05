"""Stored runs replay on their code, also where payloads are large and where they were cut off."""

from dataclasses import replace

import pytest

from offbook import (
    InvalidOption,
    NonDeterminismError,
    RunTerminated,
    Workflow,
    hook,
    sleep,
    start,
    step,
    workflow,
)
from offbook.testing import replay
from support.replays import same_in_replay
from support.worlds import CatalogueEnvironment

_LARGE = 3_000


@step
async def double(text: str) -> str:
    return text + text


@workflow
async def inner(text: str) -> str:
    return await double(text)


@workflow
async def carries(text: str) -> str:
    child = await start(inner, text)
    try:
        await fails(text)
    except ValueError as error:
        text += str(error)
    return await child.result() + await double(text) + await hook(str)


@step(retry=0)
async def fails(text: str) -> None:
    raise ValueError(text)


@workflow
async def other_code(text: str) -> str:
    return await double(text)


async def test_run_with_large_payloads_replays(env: CatalogueEnvironment) -> None:
    env.settings = replace(env.settings, inline_limit=1_000, record_limit=2_000)
    env.client.settings = env.settings
    await env.replace_workers()
    run = await env.client.start(carries, "x" * _LARGE)
    await env.wait_for_hook(run)
    await env.client.resume((await hook_token(env, run.id)), "y" * _LARGE)
    assert await run.result() == "x" * (2 * _LARGE + 4 * _LARGE) + "y" * _LARGE
    await same_in_replay(env, run, carries)
    changed: Workflow[..., str] = other_code
    with pytest.raises(NonDeterminismError):
        replay(await env.history(run), changed)
    with pytest.raises(InvalidOption, match="whole=True"):
        replay(await env.client.history(run.id), carries)


async def hook_token(env: CatalogueEnvironment, run: str) -> str:
    """Return the token of the one hook that a run has opened."""
    history = await env.client.history(run)
    (command,) = [c for r in history.records for c in r.commands if c.kind == "hook"]
    token: str = command.data["token"]
    return token


@workflow
async def sleeps_long(text: str) -> str:
    text = await double(text)
    await sleep(1_000)
    return text


async def test_terminated_run_replays_up_to_its_end(env: CatalogueEnvironment) -> None:
    run = await env.client.start(sleeps_long, "x")
    await env.wait_for_sleep(run)
    await run.terminate("enough")
    with pytest.raises(RunTerminated):
        await run.result()
    await same_in_replay(env, run, sleeps_long)
    assert str(replay(await env.history(run), sleeps_long).ended).startswith("terminated")
    never = await env.client.start(sleeps_long, "x", at=1_000)
    await never.terminate()
    with pytest.raises(RunTerminated):
        await never.result()
    await same_in_replay(env, never, sleeps_long)
