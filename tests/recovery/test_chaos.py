"""A small chaos play: workers, server and links are harmed under load; `make chaos` is the whole.

What is played is drawn from a seed; OFFBOOK_SEED repeats it.
"""

import os
import random
from pathlib import Path

import pytest

from offbook.ops.chaos.chaos import Play, parts, perform
from offbook.ops.chaos.checks import verdicts
from offbook.ops.chaos.folder import Files
from offbook.ops.chaos.plays import value_of
from offbook.ops.chaos.schedule import digest, schedule

SMALL = Play(runs=12, seconds=3.0, seed=0, workers=3)


@pytest.mark.slow
@pytest.mark.timeout(150)
async def test_all_runs_end_right_though_everything_is_harmed(tmp_path: Path) -> None:
    seed = int(os.environ.get("OFFBOOK_SEED") or random.SystemRandom().randrange(10**6))
    print(f"OFFBOOK_SEED={seed}")  # noqa: T201 - shown when the test fails
    said: list[str] = []
    play = Play(SMALL.runs, SMALL.seconds, seed, SMALL.workers)
    found = await perform(play, tmp_path, said.append)
    files = Files(tmp_path)
    files.write_meta(found | {"patience": 60_000_000})
    evidence = files.evidence()
    assert verdicts(evidence) == [], files.log.read_text("utf-8")[-3000:]
    assert len(evidence.expected) == SMALL.runs
    assert evidence.calls
    assert evidence.acts


def test_a_seed_names_one_play() -> None:
    assert parts(SMALL) == parts(SMALL)
    plans = schedule(7, 60, 6, 1.0)
    assert digest(plans) == digest(schedule(7, 60, 6, 1.0))
    assert digest(plans) != digest(schedule(8, 60, 6, 1.0))


def test_a_schedule_kills_workers_every_half_second_and_the_server_every_five() -> None:
    plans = schedule(7, 60, 6, 1.0)
    assert sum(plan.act == "kill" for plan in plans) == pytest.approx(120, abs=12)
    assert sum(plan.act == "server" for plan in plans) == pytest.approx(12, abs=2)
    assert {plan.fault for plan in plans if plan.act == "link"} >= {"cut", "half_open", "reset"}
    assert all(1.2 <= plan.seconds <= 3 for plan in plans if plan.act == "pause")
    assert [plan.at for plan in plans] == sorted(plan.at for plan in plans)


def test_every_run_has_ten_steps_a_hook_timers_a_child_and_words() -> None:
    for part in parts(SMALL):
        assert sum(what in {"near", "far", "tell", "tell_far"} for what in part.program) == 8
        assert {"pair", "child", "hook", "rest", "nap", "say"} <= set(part.program)
        assert value_of(part.program) > 100
