"""The ledger keeps what it acknowledged; the files of a play give the same evidence again."""

import asyncio
import signal
import sys
from pathlib import Path

from offbook.actors.model import Stored
from offbook.ops.chaos.evidence import Acknowledged, Act, Call
from offbook.ops.chaos.folder import Files, Told
from offbook.ops.chaos.ledger import Store, pen

CALL = Call(1, 2, "r", "0-1", 1, "enter", "label", "r/0-1", "sha")


async def test_what_the_ledger_acknowledged_outlives_its_death(tmp_path: Path) -> None:
    socket, database = tmp_path / "s", tmp_path / "d"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "offbook.ops.chaos.ledger", str(socket), str(database),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    async with pen(str(socket)) as found:
        found.note(Act("lapse", 1, 2, 3))
        found.note(Acknowledged(1, "w", "r", 4))
        found.note_fault(2, "balance")
        await asyncio.gather(*(found.keep(CALL) for _ in range(50)))
        process.send_signal(signal.SIGKILL)
        await process.wait()
    store = Store(database)
    assert store.calls() == [CALL] * 50
    assert store.acts() == [Act("lapse", 1, 2, 3)]
    assert store.acknowledged() == [Acknowledged(1, "w", "r", 4)]
    assert store.faults() == ["process 2: balance"]
    assert store.repeated() == 1, "one key, many times"
    store.close()


def test_files_give_the_evidence_again(tmp_path: Path) -> None:
    files = Files(tmp_path)
    store = Store(files.ledger)
    store.close()
    right = {"result": 3, "words": [1], "children": ["r-child"]}
    files.told += [
        Told("started", 1, "r", right),
        Told("resumed", 2, "r", "caller"),
        Told("cancelled", 3, "s"),
        Told("result", 4, "r", 3),
        Told("words", 4, "r", [1]),
        Told("leak", 5, "", "a consumer"),
    ]
    files.write_meta({"seed": 1, "calm": 9, "patience": 60})
    files.write([Act("kill", 1, 2)], {"r": [Stored(1, "0", b"no head")]})
    evidence = files.evidence()
    assert evidence.expected == {"r": 3}
    assert evidence.script == evidence.words == {"r": [1]}
    assert evidence.accepted == {"r": ["caller"]}
    assert evidence.cancelled == {"s": 3}
    assert evidence.results == {"r": 3}
    assert evidence.children == {"r-child"}
    assert evidence.leaks == ["a consumer"]
    assert evidence.acts == [Act("kill", 1, 2)]
    assert (evidence.calm, evidence.patience) == (9, 60)
    assert list(evidence.unreadable) == ["r"]
