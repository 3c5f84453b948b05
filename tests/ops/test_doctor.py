"""What the doctor finds, and what a nudge mends."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from offbook import hook, sleep, start, step, workflow
from offbook.actors.doctor import (
    Diagnosis,
    Facts,
    Finding,
    Lane,
    Look,
    WorkerInfo,
    examine,
    findings,
    workers_of,
)
from offbook.actors.model import Command, Event, Head, pack
from offbook.actors.ports import Ownership
from offbook.actors.state import RunState, first_state
from offbook.actors.summary import Summary
from offbook.adapters.log import LogObserver
from offbook.ops.cli.hints import obstacle_of
from offbook.testing import Environment

NOW = 1_000_000_000_000_000
MINUTE = 60_000_000
WORKER = WorkerInfo("w1", "default", "host", 7, "3.11.7", ("default",), 100, NOW - MINUTE, 1)
OWNERS = {0: Ownership("w1", 1), 1: Ownership("w1", 2)}
LANE = Lane("default", (WORKER,), frozenset({"shop.buy"}), OWNERS)


def summary(run: str = "r", **changes: Any) -> Summary:  # noqa: ANN401 - any field
    base = Summary(run, "shop.buy", "running", "default", NOW - MINUTE, NOW - MINUTE, None, {}, 1)
    return replace(base, **changes)


def facts(*active: Summary, lane: Lane = LANE, **changes: Any) -> Facts:  # noqa: ANN401 - any field
    base = Facts(NOW, 2, {"replicas": 1}, {lane.name: lane}, active, synced=True)
    return replace(base, **changes)


def state(*commands: Command, started: bool = True, start_at: int | None = None) -> RunState:
    head = Head("r", "shop.buy", "default", b"", "", b"", "", NOW - 10 * MINUTE, "3.11")
    head.start_at = start_at
    made = first_state(head, 1, b"")
    if started:
        made.take(Event("started"))
    for command in commands:
        made.give(command, NOW - 10 * MINUTE)
    return made


def codes(found: list[Finding]) -> list[str]:
    return [finding.code for finding in found]


def looked(look: Look, **changes: Any) -> list[Finding]:  # noqa: ANN401 - any field
    return findings(facts(summary(), looks={"r": look}, **changes), 60.0)


def test_nothing_is_found_where_nothing_is_wrong() -> None:
    assert findings(facts(summary()), 60.0) == []


STEP = Command("step", "0_0", "shop.pay", data={"args": b"", "queue": "gpu", "remote": True})
LOCAL = Command("step", "0_0", "shop.pay", data={"args": b"", "queue": "default"})
TIMER = Command("timer", "0_0", data={"due": NOW - 5 * MINUTE})
HOOK = Command("hook", "0_0", data={"token": "t"})
CHILD = Command("child", "0_0", "shop.ship", data={"run": "kid"})


@pytest.mark.parametrize(
    ("look", "code", "nudged"),
    [
        (Look(state(TIMER)), "timer-overdue", ("r",)),
        (Look(state(HOOK)), "hook-not-open", ("r",)),
        (Look(state(STEP)), "queue-not-served", ()),
        (Look(state(LOCAL)), "step-quiet", ("r",)),
        (Look(state(LOCAL), tasks_gone=frozenset({"0_0"})), "task-lost", ("r",)),
        (Look(state(CHILD), ended=frozenset({"kid"})), "child-end-lost", ("kid",)),
        (Look(state(CHILD), missing=frozenset({"kid"})), "child-start-lost", ("r",)),
        (Look(state()), "waits-for-nothing", ("r",)),
        (Look(state(started=False)), "start-lost", ("r",)),
        (Look(state(Command("complete", "0_1"))), "summary-behind", ("r",)),
        (Look(None, "record 3 is gone"), "log-damaged", ()),
    ],
)
def test_a_lost_effect_is_found_with_the_run_to_nudge(
    look: Look, code: str, nudged: tuple[str, ...]
) -> None:
    (found,) = looked(look)
    assert (found.code, found.nudge) == (code, nudged)


@pytest.mark.parametrize(
    "look",
    [
        Look(state(replace(TIMER, data={"due": NOW + MINUTE}))),
        Look(state(replace(TIMER, data={"due": NOW - 1}))),
        Look(state(CHILD)),
        Look(state(started=False, start_at=NOW + MINUTE)),
    ],
)
def test_a_run_that_waits_for_good_reason_is_left_alone(look: Look) -> None:
    assert looked(look) == []


def test_a_run_that_moved_since_its_summary_is_left_alone() -> None:
    moved = state(Command("complete", "0_1"))
    moved.at = NOW - 1
    assert looked(Look(moved)) == []


def test_an_open_hook_may_wait_for_ever() -> None:
    waiting = state(HOOK)
    waiting.take(Event("hook_opened", "0_0"))
    assert looked(Look(waiting)) == []


def test_runs_without_any_worker_are_told_once_for_their_deployment() -> None:
    lane = Lane("default", (), None, {}, waiting=2)
    looks = {"a": Look(state(TIMER))}
    found = findings(facts(summary("a"), summary("b"), lane=lane, looks=looks), 60.0)
    assert codes(found) == ["no-worker"]
    assert found[0].runs == ("a", "b")


def test_workers_that_only_run_steps_are_no_help_to_runs() -> None:
    lane = replace(LANE, workers=(replace(WORKER, workflows=0),))
    assert codes(findings(facts(summary(), lane=lane, looks={"r": Look(state(TIMER))}), 60.0)) == [
        "no-worker"
    ]


def test_mail_that_nobody_reads_is_found() -> None:
    assert codes(findings(facts(lane=Lane("old", waiting=3)), 60.0)) == ["mail-waits"]
    assert findings(facts(lane=Lane("old")), 60.0) == []


def test_a_workflow_that_no_worker_knows_is_found() -> None:
    (found,) = findings(facts(summary(workflow="shop.gone")), 60.0)
    assert (found.code, found.runs) == ("workflow-not-registered", ("r",))


def test_workers_that_serve_different_workflows_are_found() -> None:
    """A nudge would not help a run whose owner does not know its workflow."""
    others = [
        replace(WORKER, id=name, serves=serves) for name, serves in (("w1", "a"), ("w2", "b"))
    ]
    lane, look = replace(LANE, workers=tuple(others)), Look(state(started=False))
    found = findings(facts(summary(), lane=lane, looks={"r": look}), 60.0)
    assert codes(found) == ["start-lost", "mixed-workflows"]
    assert (found[0].nudge, found[0].cure) == ((), found[1].cure)
    alike = replace(LANE, workers=(WORKER, replace(WORKER, id="w2")))
    assert findings(facts(lane=alike), 60.0) == []


@workflow
async def here() -> str:
    return "here"


@workflow
async def there() -> str:
    return "there"


@pytest.mark.virtual
async def test_workers_of_one_deployment_with_other_workflows_are_told_of() -> None:
    told: list[str] = []

    class Teller(LogObserver):
        def log(self, level: str, event: str, **fields: Any) -> None:  # noqa: ANN401
            told.append(f"{level} {event} {fields.get('worker')}")

    async with Environment(workers=0, observer=Teller()) as env:
        first = await env.add_worker(workflows=[here])
        second = await env.add_worker(workflows=[there])
        runs = [await env.client.start(there, id=f"r{n}") for n in range(16)]
        while {s.status async for s in env.client.runs()} != {"pending", "completed"}:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.1)
        stuck = [run for run in runs if await run.status() == "pending"]
        found = await obstacle_of(env.client, stuck[0].id)
        assert found is not None
        assert "serve different workflows" in found.text
    for other in (first, second):
        assert told.count(f"warning mixed_workflows {other.id}") == 1


@workflow
async def begun() -> str:
    await hook(str, token="begun")
    return "done"


@pytest.mark.virtual
async def test_a_begun_run_whose_workflow_is_unknown_now_is_blocked_until_it_is_known() -> None:
    async with Environment(workers=0) as env:
        worker = await env.add_worker(workflows=[begun])
        run = await env.client.start(begun)
        await env.wait_for_hook(run)
        await env.stop_worker(worker)
        other = await env.add_worker(workflows=[here])
        await env.client.resume("begun", "on")
        while await run.status() != "blocked":  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(0.1)
        (summary,) = [s async for s in env.client.runs(status="blocked")]
        assert summary.reason == "workflow-not-registered"
        await env.stop_worker(other)
        await env.add_worker(workflows=[begun])
        assert await run.result() == "done"
        assert await run.status() == "completed"


def test_partitions_of_dead_workers_are_found() -> None:
    lane = replace(LANE, owners={0: Ownership("dead", 1), 1: Ownership("", 2)})
    (found,) = findings(facts(lane=lane), 60.0)
    assert (found.code, found.message.split()[0]) == ("no-owner", "2")


def test_workers_of_two_pythons_in_one_deployment_are_found() -> None:
    lane = replace(LANE, workers=(WORKER, replace(WORKER, id="w2", python="3.12.1")))
    assert codes(findings(facts(lane=lane), 60.0)) == ["mixed-pythons"]


@pytest.mark.parametrize("reason", ["nondeterminism", "poison", "corrupted", "lost", "stuck", None])
def test_a_blocked_run_is_an_error_with_its_reason(reason: str | None) -> None:
    blocked = summary(status="blocked", reason=reason, detail="record 3")
    (found,) = findings(facts(blocked), 60.0)
    assert (found.code, found.level, found.nudge) == ("run-blocked", "error", ("r",))
    assert "record 3" in found.message
    assert found.cure


def test_bad_settings_of_the_server_are_told_and_the_unknown_is_advice() -> None:
    health: dict[str, Any] = {"problems": ["a limit"], "replicas": 1, "cluster_size": 3}
    found = findings(facts(health=health, synced=None), 60.0)
    assert [(f.code, f.level) for f in found] == [
        ("server-setting", "warning"),
        ("sync-unknown", "info"),
        ("one-replica", "info"),
    ]
    assert codes(findings(facts(synced=False), 60.0)) == ["sync-off"]


def test_the_worst_comes_first_and_advice_is_no_fault() -> None:
    blocked = summary(status="blocked")
    found = findings(facts(blocked, synced=None, unseen=5, health={"problems": ["x"]}), 60.0)
    assert [f.level for f in found] == ["error", "warning", "info", "info"]
    assert not Diagnosis(facts(), tuple(found)).sound
    assert Diagnosis(facts(), tuple(found[2:])).sound
    assert Diagnosis(facts(), (replace(found[0], mended=True),)).sound


@pytest.mark.parametrize("data", [b"", b"\xc1", pack({"lane": "x"}), pack([1]), pack(None)])
def test_foreign_bytes_in_a_lease_leave_a_worker_without_facts(data: bytes) -> None:
    assert WorkerInfo.read("w", data) == WorkerInfo("w")


# On a world in memory


@step
async def pack_up(name: str) -> str:
    return f"packed {name}"


@workflow
async def sleeper(name: str) -> str:
    await sleep(timedelta(hours=1))
    return await pack_up(name)


@workflow
async def mother() -> str:
    child = await start(sleeper, "kid", id="kid")
    return str(await child.result())


@pytest.mark.virtual
async def test_a_lost_timer_is_found_and_mended() -> None:
    async with Environment() as env:
        run = await env.client.start(sleeper, "bag", id="bag")
        await env.wait_for_sleep(run)
        await asyncio.sleep(60)  # it is armed a moment after it is recorded
        await env.client.backend.timers.clear("bag")
        await asyncio.sleep(7200)
        found = (await examine(env.client, synced=True)).findings
        assert [(f.code, f.runs) for f in found] == [("timer-overdue", ("bag",))]
        assert await run.status() == "running"
        mended = await examine(env.client, synced=True, fix=True)
        assert mended.sound
        assert await run.result() == "packed bag"
        assert (await examine(env.client, synced=True)).findings == ()


@pytest.mark.virtual
async def test_a_family_that_waits_is_well() -> None:
    async with Environment() as env:
        run = await env.client.start(mother, id="mother")
        await env.wait_for(run, "child_started")
        await env.wait_for_sleep(env.client.run("kid"))
        await asyncio.sleep(1800)
        diagnosis = await examine(env.client, synced=True)
        assert (diagnosis.findings, sorted(diagnosis.facts.looks)) == ((), ["kid", "mother"])
        assert await run.result() == "packed kid"


@pytest.mark.virtual
async def test_a_start_without_workers_is_found_and_a_worker_mends_it() -> None:
    async with Environment(workers=0) as env:
        run = await env.client.start(sleeper, "bag", id="bag")
        found = (await examine(env.client, synced=True)).findings
        assert [(f.code, f.runs) for f in found] == [("no-worker", ("bag",))]
        await env.add_worker()
        await env.wait_for_sleep(run)
        assert (await examine(env.client, synced=True)).findings == ()
        (worker,) = await workers_of(env.client)
        assert (worker.deployment, worker.queues) == ("default", ("default",))


@pytest.mark.virtual
async def test_only_so_many_histories_are_read() -> None:
    async with Environment() as env:
        for name in ("a", "b", "c"):
            await env.wait_for_sleep(await env.client.start(sleeper, name, id=name))
        await asyncio.sleep(600)
        diagnosis = await examine(env.client, synced=True, limit=1)
        assert (len(diagnosis.facts.looks), diagnosis.facts.unseen) == (1, 2)
        assert [f.code for f in diagnosis.findings] == ["not-looked-at"]
