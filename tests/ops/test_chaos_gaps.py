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
        ([8, 12, 14, 21], 7),
        ([8, 11, 12, 20], 8),
        ([8, 10, 20, 30], 10),
        ([9, 19, 22], 10),
        ([1, 2], 18),
        ([25, 26], 10),
        ([1, 9, 11, 12, 13, 14, 15, 16, 17, 18, 19, 40], 21),
    ],
)
def test_a_gap_counts_whole_where_it_touches_the_time_of_a_harm(
    times: list[int], seconds: int
) -> None:
    assert longest([at * S for at in times], 10 * S, 20 * S) == seconds


def test_a_stop_is_told_of_all_records_of_the_worst_shard_and_of_the_bare_publisher() -> None:
    evidence = Evidence({}, {}, place=(16, 4))
    evidence.harms = [Harm("leader", "mail (n2)", 10 * S, 20 * S)]
    runs = [f"r{n}" for n in range(32)]
    evidence.acknowledged = [
        Acknowledged(at * S, "w", run, 1) for at in (9, 12, 13, 19, 21) for run in runs
    ]
    evidence.acknowledged += [Acknowledged(16 * S, "w", "r0", 2)]
    evidence.bare = [n * S for n in range(30)]
    (stop,) = stops(evidence)
    assert (stop.offbook, stop.shard, stop.bare, stop.beyond) == (3, 6, 1, 2)
    assert list(judged(evidence)) == []
    (verdict,) = judged(evidence, allowed=1.5)
    assert verdict.rule == "stop"
    assert "mail (n2)" in table([stop])[1]


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
