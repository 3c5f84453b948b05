"""Race storms: 6 rounds of 8 branches, several runs at once, while workers come and go.

Of each run: it ends, its log breaks no rule, its code replays to the same result, what a sender
was told is accepted came once, and the result agrees with the log. `inline_hang`, which needs
processes to kill, is in tests/recovery.
"""

# ruff: noqa: ANN401 - results of any type

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from offbook import HookNotFound, Run, Workflow, hook, sleep, step, workflow
from offbook.testing import History, replay
from support.checks import Evidence, verdicts
from support.notes import note, noted
from support.worlds import CatalogueEnvironment

pytestmark = pytest.mark.timeout(120)

ROUNDS, BRANCHES, RUNS = 6, 8, 4
FEW = 2
"""Runs where each turn reads the whole history again."""
UNIT = 4
"""Seconds of the catalogue until a watchdog fires."""

Drive = Callable[[Run[Any]], Coroutine[Any, Any, None]]
"""What the world does to a run."""


class Storm:
    """Several runs of one workflow, with senders at each and two more workers on the way."""

    def __init__(
        self, env: CatalogueEnvironment, play: Workflow[..., Any], *, closing: bool = False
    ) -> None:
        """With `closing`, hooks are closed while payloads are on their way to them."""
        self.env = env
        self.play = play
        self._closing = closing
        self._accepted: dict[str, list[str]] = {}
        self._callers = 0

    async def run(self, drive: Drive) -> list[tuple[Run[Any], Any]]:
        """Let it rage; return the runs with their results once all are judged."""
        unit = self.env.seconds(UNIT)
        few = self.env.settings.idle == 0
        names = [f"storm-{number}" for number in range(FEW if few else RUNS)]
        starts = [self.env.client.start(self.play, name, unit, id=name) for name in names]
        runs = list(await asyncio.gather(*starts))
        senders = [asyncio.create_task(drive(run)) for run in runs]
        coming = asyncio.create_task(self._come_and_go())
        results = await asyncio.gather(*(run.result() for run in runs))
        await asyncio.gather(*senders)
        await coming
        await self._judge(runs, results)
        return list(zip(runs, results, strict=True))

    async def _come_and_go(self) -> None:
        first = self.env.workers[0]
        await self.env.add_worker()
        await self.env.pause(3)
        await self.env.add_worker()
        await self.env.pause(2)
        await self.env.stop_worker(first)

    async def send(self, token: str, payload: Any) -> bool:
        """Resume a hook; return whether it was there."""
        self._callers += 1
        caller = str(self._callers)
        try:
            await self.env.client.resume(token, payload, id=caller)
        except HookNotFound:
            return False
        self._accepted.setdefault(token, []).append(caller)
        return True

    async def send_once_open(self, token: str, payload: Any) -> None:
        """Resume a hook that will surely open."""
        while not await self.send(token, payload):
            await self.env.pause(0.1)

    async def _judge(self, runs: list[Run[Any]], results: list[Any]) -> None:
        found = {run.id: await self.env.history(run) for run in runs}
        ends = {run.id: result for run, result in zip(runs, results, strict=True)}
        assert verdicts(Evidence(ends, found, dict(ends))) == []
        for history in found.values():
            machine = replay(history, self.play)
            assert machine.ended is not None
            recorded = history.records[-1].commands[-1]
            assert (recorded.kind, machine.ended.data) == ("complete", recorded.data)
            self._judge_payloads(history)

    def _judge_payloads(self, history: History) -> None:
        """What was accepted came once and in order; only what met a closed hook may be missing."""
        commands = [command for record in history.records for command in record.commands]
        token_of = {c.id: str(c.data["token"]) for c in commands if c.kind == "hook"}
        received: dict[str, list[str]] = {token: [] for token in token_of.values()}
        for event in (event for record in history.records for event in record.events):
            if event.kind == "hook_received":
                received[token_of[event.id]].append(event.data["caller"])
        for token, callers in received.items():
            sent = self._accepted.get(token, [])
            assert callers == (sent[: len(callers)] if self._closing else sent)


async def of_kind(run: Run[Any], kind: str) -> set[str]:
    """Return the ids that events of a kind name."""
    return {event.id async for event in run.events() if event.type == kind}


# step_storm


@step
async def branch(round_: int, number: int, seconds: float) -> list[int]:
    await asyncio.sleep(seconds)
    return [round_, number]


async def before_the_watchdog(
    round_: int, unit: float, tasks: list[asyncio.Task[Any]]
) -> dict[str, Any]:
    """Collect what ends before a sleep does; cancel the rest."""
    dog = asyncio.create_task(sleep(unit))
    pending: set[asyncio.Task[Any]] = {dog, *tasks}
    won: list[Any] = []
    while dog in pending and len(pending) > 1:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        won += [task.result() for task in tasks if task in done]
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    cut = [n for n, task in enumerate(tasks) if task.cancelled()]
    late = [n for n, t in enumerate(tasks) if not t.cancelled() and t.result() not in won]
    return {"round": round_, "won": won, "cut": cut, "late": late}


@workflow
async def step_storm(token: str, unit: float) -> list[dict[str, Any]]:
    async with hook(int, token=token) as unread:
        await unread.claim()
        rounds: list[dict[str, Any]] = []
        for r in range(ROUNDS):
            tasks = [
                asyncio.create_task(branch(r, n, unit * (0.6 + 0.1 * n))) for n in range(BRANCHES)
            ]
            rounds.append(await before_the_watchdog(r, unit, tasks))
    return rounds


async def test_step_storm(env: CatalogueEnvironment) -> None:
    storm = Storm(env, step_storm, closing=True)

    async def drive(run: Run[Any]) -> None:
        await env.wait_for_hook(run)
        number = 0
        while await storm.send(run.id, number):
            number += 1
            await env.pause(0.2)
        assert number > ROUNDS, "it was resumed all the time"

    for run, rounds in await storm.run(drive):
        outcomes = await of_kind(run, "step_completed")
        by_input = {tuple(s.input.values())[:2]: s for s in (await run.view()).steps}
        assert len(by_input) == ROUNDS * BRANCHES
        for told in rounds:
            won = {tuple(pair) for pair in told["won"]}
            assert {pair[0] for pair in won} <= {told["round"]}
            numbers = sorted([pair[1] for pair in won] + told["cut"] + told["late"])
            assert numbers == list(range(BRANCHES)), "each branch once"
            for pair in won:
                assert by_input[pair].id in outcomes
                assert by_input[pair].output == list(pair)
            for n in told["cut"]:
                # A result may have overtaken the cancel: it is in the log, the body was cancelled.
                assert by_input[told["round"], n].status in {"cancelled", "completed"}


# hook_storm


async def payload_of(token: str) -> list[str]:
    async with hook(str, token=token) as box:
        return [await box]


@workflow
async def hook_storm(name: str, unit: float) -> list[dict[str, Any]]:
    rounds: list[dict[str, Any]] = []
    for r in range(ROUNDS):
        tokens = [f"{name}-{r}-{n}" for n in range(BRANCHES)]
        tasks = [asyncio.create_task(payload_of(token)) for token in tokens]
        rounds.append(await before_the_watchdog(r, unit, tasks))
    return rounds


async def test_hook_storm(env: CatalogueEnvironment) -> None:
    storm = Storm(env, hook_storm, closing=True)

    async def resume(run: Run[Any], r: int, n: int) -> None:
        await env.pause(UNIT * (0.7 + 0.05 * n))
        for copy in range(3):
            await storm.send(f"{run.id}-{r}-{n}", f"{r}-{n}-{copy}")

    async def drive(run: Run[Any]) -> None:
        for r in range(ROUNDS):
            await env.wait_for(run, "hook_created", count=1 + r * BRANCHES)
            await asyncio.gather(*(resume(run, r, n) for n in range(BRANCHES)))

    for run, rounds in await storm.run(drive):
        received: dict[str, list[str]] = {}
        async for event in run.events():
            if event.type == "hook_received":
                received.setdefault(event.id, []).append(event.data["payload"])
        firsts = [payloads[0] for payloads in received.values()]
        for told in rounds:
            won = [payload for (payload,) in told["won"]]
            assert set(won) <= set(firsts), "what a branch got is the first that came to its hook"
            numbers = [int(payload.split("-")[1]) for payload in won]
            assert sorted(numbers + told["cut"] + told["late"]) == list(range(BRANCHES))
            for n in told["cut"]:
                assert not any(payload.startswith(f"{told['round']}-{n}-") for payload in won)
        assert await of_kind(run, "hook_created") == await of_kind(run, "hook_disposed")


# blocked_branch


@step
async def echo(value: str) -> str:
    note(f"echo {value}")
    return value


async def three_steps(round_: int, number: int) -> list[str]:
    return [await echo(f"{round_}-{number}-{turn}") for turn in range(3)]


async def step_after_payload(token: str) -> list[str]:
    payload = await hook(str, token=token)
    return [payload, await echo(f"after {payload}")]


@workflow
async def blocked_branch(name: str, _unit: float) -> list[list[list[str]]]:
    rounds: list[list[list[str]]] = []
    for r in range(ROUNDS):
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(
                    step_after_payload(f"{name}-{r}-{n}") if n % 2 else three_steps(r, n)
                )
                for n in range(BRANCHES)
            ]
        rounds.append([task.result() for task in tasks])
    return rounds


async def test_blocked_branch(env: CatalogueEnvironment) -> None:
    storm = Storm(env, blocked_branch)

    async def resume(run: Run[Any], r: int, n: int) -> None:
        await noted(run, f"echo {r}-{n - 1}-{(n // 2) % 3}")
        await storm.send_once_open(f"{run.id}-{r}-{n}", f"{r}-{n}")

    async def drive(run: Run[Any]) -> None:
        pairs = [(r, n) for r in range(ROUNDS) for n in range(1, BRANCHES, 2)]
        await asyncio.gather(*(resume(run, r, n) for r, n in pairs))

    right = [
        [
            [f"{r}-{n}", f"after {r}-{n}"] if n % 2 else [f"{r}-{n}-{turn}" for turn in range(3)]
            for n in range(BRANCHES)
        ]
        for r in range(ROUNDS)
    ]
    for _, rounds in await storm.run(drive):
        assert rounds == right


# wake_loop


async def listen(token: str, unit: float) -> dict[str, Any]:
    """Take as many payloads as there are rounds; a heartbeat ends each wait for one."""
    found: list[int] = []
    beats = 0
    async with hook(int, token=token) as box:
        while len(found) < ROUNDS:
            try:
                async with asyncio.timeout(unit):
                    found.append(await box)
            except TimeoutError:
                beats += 1
    return {"found": found, "beats": beats}


@workflow
async def wake_loop(name: str, unit: float) -> list[dict[str, Any]]:
    branches = [listen(f"{name}-{n}", unit) for n in range(BRANCHES)]
    return list(await asyncio.gather(*branches))


async def test_wake_loop(env: CatalogueEnvironment) -> None:
    storm = Storm(env, wake_loop)

    async def resume(run: Run[Any], n: int) -> None:
        await storm.send_once_open(f"{run.id}-{n}", 0)
        for number in range(1, ROUNDS):
            await env.pause(UNIT * (0.94 + 0.02 * n))
            assert await storm.send(f"{run.id}-{n}", number)

    async def drive(run: Run[Any]) -> None:
        await env.wait_for_hook(run, count=BRANCHES)
        await asyncio.gather(*(resume(run, n) for n in range(BRANCHES)))

    for run, branches in await storm.run(drive):
        assert [b["found"] for b in branches] == [list(range(ROUNDS))] * BRANCHES, "none is lost"
        kinds = await env.kinds(run)
        assert kinds.count("timer_fired") == sum(b["beats"] for b in branches)
        assert kinds.count("hook_received") == ROUNDS * BRANCHES


# hook_sleep


async def hook_or_sleep(token: str, seconds: float) -> str:
    box = hook(str, token=token)
    waiting = asyncio.ensure_future(box)
    timer = asyncio.create_task(sleep(seconds))
    await asyncio.wait({waiting, timer}, return_when=asyncio.FIRST_COMPLETED)
    if waiting.done():
        timer.cancel()
        return waiting.result()
    waiting.cancel()
    return "slept"


@workflow
async def hook_sleep(name: str, unit: float) -> list[list[str]]:
    rounds: list[list[str]] = []
    for r in range(ROUNDS):
        branches = [
            hook_or_sleep(f"{name}-{r}-{n}", unit if n % 2 else 3600.0) for n in range(BRANCHES)
        ]
        rounds.append(list(await asyncio.gather(*branches)))
    return rounds


async def test_hook_sleep(env: CatalogueEnvironment) -> None:
    storm = Storm(env, hook_sleep)

    async def drive(run: Run[Any]) -> None:
        for r in range(ROUNDS):
            even = [(f"{run.id}-{r}-{n}", f"{r}-{n}") for n in range(0, BRANCHES, 2)]
            await asyncio.gather(*(storm.send_once_open(*each) for each in even))

    right = [["slept" if n % 2 else f"{r}-{n}" for n in range(BRANCHES)] for r in range(ROUNDS)]
    for _, rounds in await storm.run(drive):
        assert rounds == right
