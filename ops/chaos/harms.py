"""What is done to a cluster, in which order: a pure function of a seed."""

import hashlib
import json
import random
from dataclasses import asdict, dataclass

STREAMS = (
    "KV_offbook_log0", "KV_offbook_log1", "KV_offbook_log2", "KV_offbook_log3", "offbook_mail",
    "offbook_timers", "offbook_steps", "KV_offbook_leases", "meta",
)  # fmt: skip
"""Whose leaders are killed; of the bare publisher's stream see below."""

BARE_STREAM = "offbook_topics"
"""No run of the play writes to it: the bare publisher has it for itself."""

BARE_SUBJECT = "offbook.topic.bare"


@dataclass(frozen=True, slots=True)
class PlannedHarm:
    """One harm.

    kind: `leader` (SIGKILL of the node that leads the stream `whom`), `lose` (SIGKILL of the node
    `whom`), `empty` (the same, and its disk is lost), `stop` (SIGTERM), `duck` (as a lame duck),
    `worker` (SIGTERM of the worker in slot `whom`). seconds: how long a node is away.
    """

    kind: str
    whom: str
    seconds: float = 0.0


def harms(seed: int, kills: int, nodes: list[str], workers: int) -> list[PlannedHarm]:
    """Return all harms of a play, in order: rolls stay together, the rest is shuffled."""
    chance = random.Random(f"{seed}:harms")  # noqa: S311 - to be repeated
    groups = [[harm] for harm in _kills(chance, kills)]
    groups += [[PlannedHarm("lose", chance.choice(nodes), round(chance.uniform(6, 12), 1))]]
    groups += [[PlannedHarm("empty", chance.choice(nodes), round(chance.uniform(2, 6), 1))]]
    groups += [[PlannedHarm(kind, node, 0.5) for node in nodes] for kind in ("stop", "duck")]
    groups += [[PlannedHarm("worker", str(slot)) for slot in range(workers)]]
    chance.shuffle(groups)
    return [harm for group in groups for harm in group]


def _kills(chance: random.Random, kills: int) -> list[PlannedHarm]:
    """Every third hits the leader of the bare publisher, the others one of ours."""
    drawn = chance.sample(STREAMS, len(STREAMS))
    found: list[PlannedHarm] = []
    for number in range(kills):
        stream = BARE_STREAM if number % 3 == 0 else drawn[number % len(drawn)]
        found.append(PlannedHarm("leader", stream, chance.choice((0.0, 0.5, 2.0))))
    return found


def digest(found: list[PlannedHarm]) -> str:
    """Return a short name of a plan: equal names, equal harms."""
    text = json.dumps([asdict(harm) for harm in found])
    return hashlib.sha256(text.encode()).hexdigest()[:12]
