"""Laws that every workflow keeps, held over random programs in random interleavings."""

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from offbook.actors.errors import NonDeterminismError
from support.programs import Program, answer, extended, interpreted, program, to_text
from support.stage import Stage, Turn, machine_of, replay, staged

SEEDS = range(150)
SUPPORT = Path(__file__).parent.parent


def recorded(seed: int) -> tuple[Program, list[Turn]]:
    """Draw a program, and play it with a cancel of the run in every fourth case."""
    rng = random.Random(seed)
    instructions = program(rng)
    with staged(interpreted, instructions, answer=answer, order=seed) as stage:
        if seed % 4 == 0:
            stage.play(limit=rng.randint(1, 12))
            if stage.machine.ended is None:
                stage.feed("cancel_requested", reason="law")
        stage.play()
        assert stage.machine.ended is not None, stage.machine.waiting
        return instructions, stage.turns


@pytest.mark.parametrize("seed", SEEDS)
def test_the_replay_of_a_history_gives_its_commands(seed: int) -> None:
    instructions, turns = recorded(seed)
    assert turns
    replay(interpreted, turns, instructions)


@pytest.mark.parametrize("seed", SEEDS[::5])
def test_the_replay_of_any_prefix_gives_that_prefix_and_goes_on_as_before(seed: int) -> None:
    instructions, turns = recorded(seed)
    for length in {1, 2, len(turns) // 3, len(turns) // 2, len(turns) - 1}:
        machine = machine_of(interpreted, instructions)
        for n, turn in enumerate(turns[:length]):
            machine.expect(n, turn.commands)
            machine.feed(turn.event, turn.at)
            machine.check()
        for turn in turns[length:]:
            assert machine.feed(turn.event, turn.at) == turn.commands
        machine.evict()


@pytest.mark.parametrize("seed", SEEDS[::5])
def test_two_runs_of_one_program_give_the_same_commands_but_for_the_ids_of_runs(seed: int) -> None:
    instructions, turns = recorded(seed)
    machine = machine_of(interpreted, instructions, run="another")
    for turn in turns:
        found = machine.feed(turn.event, turn.at)
        assert [str(c) for c in found] == [str(c) for c in turn.commands]
    machine.evict()


@pytest.mark.parametrize("seed", SEEDS[::3])
def test_every_identity_is_used_once(seed: int) -> None:
    _, turns = recorded(seed)
    keys = [(c.id, c.kind) for turn in turns for c in turn.commands]
    assert len(keys) == len(set(keys))
    makers = [c.id for turn in turns for c in turn.commands if c.kind in _MAKERS]
    assert len(makers) == len(set(makers))


_MAKERS = {"step", "timer", "hook", "child", "scope", "attributes", "complete", "fail", "cancelled"}


@pytest.mark.parametrize("seed", SEEDS[1::3])
def test_a_changed_argument_is_caught(seed: int) -> None:
    instructions, turns = recorded(seed)
    digests = [c for turn in turns for c in turn.commands if c.kind == "step"]
    if not digests:
        return
    victim = random.Random(seed).choice(digests)
    true, victim.digest = victim.digest, b"other"
    with pytest.raises(NonDeterminismError) as caught:
        replay(interpreted, turns, instructions)
    assert victim.id in caught.value.expected
    victim.digest = true
    replay(interpreted, turns, instructions)


@pytest.mark.parametrize("seed", SEEDS[1::3])
def test_a_lost_or_invented_command_is_caught(seed: int) -> None:
    instructions, turns = recorded(seed)
    turn = random.Random(seed).choice([t for t in turns if t.commands])
    taken = turn.commands.pop()
    with pytest.raises(NonDeterminismError):
        replay(interpreted, turns, instructions)
    turn.commands.append(taken)
    invented = type(taken)("step", "0_999", "p.work", b"")
    turn.commands.append(invented)
    with pytest.raises(NonDeterminismError):
        replay(interpreted, turns, instructions)


@pytest.mark.parametrize("seed", [s for s in SEEDS[1::3] if s % 4])
def test_an_appended_branch_shifts_no_identity(seed: int) -> None:
    instructions, turns = recorded(seed)
    machine = machine_of(extended, instructions)
    for turn in turns:
        found = machine.feed(turn.event, turn.at)
        if any(b"appended" in c.data.get("args", b"") for c in found):
            break
        assert found == turn.commands
    machine.evict()


def test_another_process_with_another_hash_seed_gives_the_same() -> None:
    plays = [recorded(seed) for seed in range(300)]
    text = "".join(to_text(instructions, turns) + "\n" for instructions, turns in plays)
    events = sum(len(turns) for _, turns in plays)
    for hash_seed in ("1", "4242"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(SUPPORT)}
        done = subprocess.run(
            [sys.executable, "-m", "support.programs"],
            input=text,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stderr == ""
        assert done.stdout == f"{events}\n"


def test_interleaved_runs_do_not_touch_each_other() -> None:
    plays: list[tuple[Program, list[Turn], Any]] = []
    for seed in range(20):
        instructions, turns = recorded(seed)
        plays.append((instructions, turns, machine_of(interpreted, instructions)))
    for n in range(max(len(turns) for _, turns, _ in plays)):
        for _, turns, machine in plays:
            if n < len(turns):
                assert machine.feed(turns[n].event, turns[n].at) == turns[n].commands
    for _, _, machine in plays:
        machine.evict()


def test_outcomes_after_the_end_change_nothing() -> None:
    instructions, turns = recorded(3)
    with staged(interpreted, instructions) as stage:
        _feed_all(stage, turns)
        end = stage.machine.ended
        for turn in turns:
            assert stage.machine.feed(turn.event, turn.at) == []
        assert stage.machine.ended is end


def _feed_all(stage: Stage, turns: list[Turn]) -> None:
    for turn in turns:
        stage.machine.feed(turn.event, turn.at)
