"""Longest times without an acknowledgement, and what is done to a cluster by a seed."""

import pytest

from offbook.ops.chaos.evidence import Acknowledged, Evidence, Harm
from offbook.ops.chaos.gaps import judged, longest, stops, table
from offbook.ops.chaos.harms import BARE_STREAM, STREAMS, digest, harms

NODES = ["n1", "n2", "n3"]
S = 1_000_000


@pytest.mark.parametrize(
    ("times", "seconds"),
    [
        ([], 10),
        ([5], 15),
        ([1, 5, 9], 11),
        ([8, 12, 14, 21], 4),
        ([8, 11, 12, 20], 8),
        ([8, 10, 20, 30], 10),
        ([9, 19, 22], 10),
        ([9, 22], 0),
        ([1, 2], 18),
        ([25, 26], 0),
        ([11, 26], 0),
        ([1, 9, 11, 12, 13, 14, 15, 16, 17, 18, 19, 40], 2),
    ],
)
def test_a_gap_counts_whole_for_the_harm_in_whose_time_it_ends(
    times: list[int], seconds: int
) -> None:
    assert longest([at * S for at in times], 10 * S, 20 * S) == seconds


def test_a_stop_is_told_beside_the_bare_publisher_s_in_harms_of_the_same_sort() -> None:
    evidence = Evidence({}, {})
    evidence.harms = [
        Harm("leader", "mail (n2)", 10 * S, 20 * S),
        Harm("lose", "n1", 20 * S, 30 * S),
        Harm("worker", "0", 30 * S, 40 * S),
    ]
    evidence.acknowledged = [Acknowledged(at * S, "w", "r", 1) for at in (9, 17, 21, 28, 31, 40)]
    evidence.bare = [at * S for at in range(50) if not 22 < at < 26]
    found = stops(evidence)
    assert [stop.offbook for stop in found] == [8, 7, 9]
    assert [stop.bare for stop in found] == [1, 4, 1]
    assert [stop.beyond for stop in found] == [4, 3, 8]
    (verdict,) = judged(evidence)
    assert verdict.rule == "stop"
    assert verdict.evidence.startswith("worker 0")
    assert len(list(judged(evidence, allowed=2))) == 3
    assert "mail (n2)" in table(found)[1]
    assert table([]) == []


def test_a_seed_names_one_plan_that_holds_every_harm() -> None:
    plan = harms(7, 6, NODES, 4)
    assert plan == harms(7, 6, NODES, 4)
    assert digest(plan) != digest(harms(8, 6, NODES, 4))
    kinds = [harm.kind for harm in plan]
    counts = {"leader": 6, "lose": 1, "empty": 1, "stop": 3, "duck": 3, "worker": 4}
    assert {kind: kinds.count(kind) for kind in set(kinds)} == counts
    killed = [harm.whom for harm in plan if harm.kind == "leader"]
    assert killed.count(BARE_STREAM) == 2
    assert set(killed) - {BARE_STREAM} <= set(STREAMS)


def test_nodes_and_workers_are_restarted_one_after_the_other() -> None:
    plan = harms(7, 2, NODES, 3)
    for kind, those in (("stop", NODES), ("duck", NODES), ("worker", ["0", "1", "2"])):
        first = next(place for place, harm in enumerate(plan) if harm.kind == kind)
        assert [harm.whom for harm in plan[first : first + 3]] == those
