"""Seeds of the simulation: what they show, that they repeat, and that they can fail."""

# ruff: noqa: ANN401 - values of any type pass through here

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from offbook.actors.actor import RunActor
from offbook.actors.server_clock import ServerClock
from simulation import nemesis, scene
from simulation.__main__ import report
from simulation.scene import Outcome, simulate

TESTS = Path(__file__).parent.parent
SCRIPT = (
    "import sys; from simulation.scene import simulate; print(simulate(int(sys.argv[1])).digest)"
)


def told(outcome: Outcome) -> str:
    return report(outcome)


@pytest.mark.parametrize("seed", range(2))
def test_all_runs_end_right_whatever_happens_to_them(seed: int) -> None:
    outcome = simulate(seed)
    assert outcome.runs
    assert not outcome.broken, told(outcome)


@pytest.mark.parametrize("seed", range(2))
def test_what_a_server_without_sync_forgets_is_told(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nemesis, "CUTS", 1.0)
    outcome = simulate(seed)
    assert outcome.runs
    assert not outcome.broken, told(outcome)


@pytest.mark.parametrize("hash_seed", ["77"])
def test_a_seed_is_the_same_life_in_another_process(hash_seed: str) -> None:
    seed = 12
    shown = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(seed)],
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.strip() == simulate(seed).digest == simulate(seed).digest


def test_other_seeds_are_other_lives() -> None:
    assert len({simulate(seed).digest for seed in range(3)}) == 3


def ack_too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """An owner that keeps no mail back while work is under way."""
    done = RunActor._done  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]

    def careless(actor: Any, batch: Any) -> None:
        done(actor, batch)
        actor._mail.let_all_go()  # noqa: SLF001

    monkeypatch.setattr(RunActor, "_done", careless)


def trust_its_own_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that takes its machine's clock for the server's."""

    def deaf(_clock: ServerClock, _at: int) -> None:
        return

    monkeypatch.setattr(ServerClock, "heard", deaf)


@pytest.mark.parametrize("plant", [ack_too_early, trust_its_own_clock])
def test_a_planted_fault_is_found_and_its_seed_repeats_it_to_the_byte(
    plant: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    scene.right_results()
    plant(monkeypatch)
    found = next(one for one in map(simulate, range(200, 260)) if one.broken)
    files = [tmp_path / "one", tmp_path / "other"]
    again = [simulate(found.seed, file) for file in files]
    assert [one.digest for one in again] == [found.digest] * 2
    assert [one.broken for one in again] == [found.broken] * 2
    assert files[0].read_bytes() == files[1].read_bytes()
    assert f"--from {found.seed}" in told(found)
