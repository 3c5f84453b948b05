"""The verdict as text: what was lost, doubled, late, stale, out of order, wrong, left behind."""

import json
import platform
import subprocess
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .evidence import Evidence, Verdict
from .servers import binary

GROUPS: dict[str, tuple[str, ...]] = {
    "lost": ("lost-run", "lost-event", "lost-timer", "lost-cancel", "hook-lost", "chunk-lost"),
    "duplicate": (
        "double-completion",
        "two-outcomes",
        "hook-twice",
        "keyed-twice",
        "extra-body",
        "chunk-twice",
        "I5",
    ),
    "late": ("stuck", "stop"),
    "stale": ("zombie-write", "moved-event", "after-the-end", "I2", "I7"),
    "out of order": ("I1", "early-timer", "chunk-out-of-order"),
    "wrong": ("wrong-result", "fault"),
    "left behind": ("leak",),
}
"""Every rule of the checker, under the word that is printed."""

_SHOWN = 20
_COMMAND_SECONDS = 10


def versions() -> dict[str, str]:
    """Return what a play has to be repeated with."""
    return {
        "commit": _said("git", "describe", "--always", "--dirty", "--abbrev=12"),
        "python": platform.python_version(),
        "server": _said(str(binary()), "--version"),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _said(*command: str) -> str:
    folder = Path(__file__).parent
    try:
        done = subprocess.run(  # noqa: S603 - ours
            command, cwd=folder, capture_output=True, text=True, check=False,
            timeout=_COMMAND_SECONDS,
        )  # fmt: skip
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"


def counted(found: list[Verdict]) -> dict[str, int]:
    """Return how often each group of rules was broken."""
    rules = Counter(verdict.rule for verdict in found)
    return {group: sum(rules[rule] for rule in names) for group, names in GROUPS.items()}


def lateness(evidence: Evidence) -> list[float]:
    """Return the seconds by which timers fired late, sorted."""
    found: list[float] = []
    for history in evidence.histories.values():
        due: dict[str, int] = {}
        for record in history.records:
            fired = (event.id for event in record.events if event.kind == "timer_fired")
            found += [(record.at - due[timer]) / 1e6 for timer in fired if timer in due]
            due |= {c.id: c.data["due"] for c in record.commands if c.kind == "timer"}
    return sorted(found)


def again(evidence: Evidence) -> tuple[int, int]:
    """Return how many bodies were entered, and how many of them were not the first."""
    entered = Counter((c.run, c.step, c.attempt) for c in evidence.calls if c.phase == "enter")
    return sum(entered.values()), sum(entered.values()) - len(entered)


def figures(evidence: Evidence) -> dict[str, Any]:
    """Return what a play shows besides its verdict."""
    bodies, repeated = again(evidence)
    late = lateness(evidence)
    found: dict[str, Any] = {
        "runs": len(evidence.expected),
        "histories": len(evidence.histories),
        "records": sum(len(h.records) for h in evidence.histories.values()),
        "acknowledged": len(evidence.acknowledged),
        "bodies": bodies,
        "bodies_again": repeated,
        "cancelled": len(evidence.cancelled),
        "timers": len(late),
    }
    if late:
        places = {"timer_late_p50": 0.5, "timer_late_p99": 0.99, "timer_late_max": 1.0}
        found |= {
            name: round(late[min(len(late) - 1, int(len(late) * part))], 3)
            for name, part in places.items()
        }
    return found


def lines(found: list[Verdict], meta: dict[str, Any]) -> list[str]:
    """Return the verdict as text, the groups on the first line."""
    head = "  ".join(f"{group} {count}" for group, count in counted(found).items())
    proof = {"seed": meta.get("seed"), "commit": meta.get("commit")}
    shown = [
        json.dumps({"verdict": "violated", **asdict(verdict), **proof})
        for verdict in found[:_SHOWN]
    ]
    more = [f"and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
    return [head, *shown, *more]
