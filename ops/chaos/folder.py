"""The inputs of the checker as files, so that a failing play can be judged again.

`meta.json`: seed, options, commit, versions, calm. `client.jsonl`: what the client was told.
`killer.jsonl`: the acts. `ledger.db`: what the bodies did. `log.jsonl`: all messages of the log.
Of a cluster also `harms.jsonl`: what was done to it, and `bare.txt`: when a bare publisher was
acknowledged.
"""

import base64
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from offbook.actors.errors import HistoryCorrupted, HistoryLost
from offbook.actors.model import History, Stored, read_history

from .evidence import Act, Evidence, Harm
from .ledger import Store


@dataclass(frozen=True, slots=True)
class Told:
    """One line of the client's log.

    kind: `started` (detail: the right result and words), `resumed` (detail: the caller's id),
    `cancelled`, `result`, `words`, `leak`, `idle` (a worker that does not serve).
    """

    kind: str
    at: int
    run: str = ""
    detail: Any = None


@dataclass(slots=True)
class Files:
    """The files of one play."""

    folder: Path
    told: list[Told] = field(default_factory=list[Told])

    @property
    def ledger(self) -> Path:
        """Where the database of the ledger is."""
        return self.folder / "ledger.db"

    @property
    def log(self) -> Path:
        """Where workers write what they have to say."""
        return self.folder / "workers.log"

    @property
    def bare(self) -> Path:
        """Where a bare publisher writes."""
        return self.folder / "bare.txt"

    def write_meta(self, meta: dict[str, Any]) -> None:
        """Keep what the play was."""
        text = json.dumps(meta, indent=1)
        (self.folder / "meta.json").write_text(text, encoding="utf-8")

    def meta(self) -> dict[str, Any]:
        """Return what the play was."""
        found: dict[str, Any] = json.loads((self.folder / "meta.json").read_text("utf-8"))
        return found

    def write(self, acts: Iterable[Act], logs: dict[str, list[Stored]]) -> None:
        """Keep what the client was told, what was done, and what the log holds."""
        self._write("client", (asdict(told) for told in self.told))
        self._write("killer", (asdict(act) for act in acts))
        self._write(
            "log",
            (
                {"run": run, "key": s.key, "seq": s.seq, "data": base64.b64encode(s.data).decode()}
                for run, stored in logs.items()
                for s in stored
            ),
        )

    def write_harms(self, harms: Iterable[Harm]) -> None:
        """Keep what was done to a cluster."""
        self._write("harms", (asdict(harm) for harm in harms))

    def _write(self, name: str, lines: Iterable[dict[str, Any]]) -> None:
        with (self.folder / f"{name}.jsonl").open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)

    def _read(self, name: str) -> Iterator[dict[str, Any]]:
        with (self.folder / f"{name}.jsonl").open(encoding="utf-8") as file:
            yield from map(json.loads, file)

    def evidence(self) -> Evidence:
        """Read what is to be judged."""
        meta = self.meta()
        evidence = Evidence({}, {}, calm=meta["calm"], patience=meta["patience"])
        evidence.children = set()
        for fields in self._read("client"):
            _take(evidence, Told(**fields))
        evidence.acts = [Act(**fields) for fields in self._read("killer")]
        _read_logs(evidence, self._read("log"))
        _read_ledger(evidence, self.ledger)
        if self.bare.exists():
            evidence.harms = [Harm(**fields) for fields in self._read("harms")]
            evidence.bare = [int(line) for line in self.bare.read_text("utf-8").splitlines()]
        return evidence


def _take(evidence: Evidence, told: Told) -> None:
    if told.kind == "started":
        evidence.expected[told.run] = told.detail["result"]
        evidence.script[told.run] = told.detail["words"]
        if evidence.children is not None:
            evidence.children.update(told.detail["children"])
    elif told.kind == "resumed":
        evidence.accepted.setdefault(told.run, []).append(told.detail)
    elif told.kind == "cancelled":
        evidence.cancelled[told.run] = told.at
    elif told.kind == "result":
        evidence.results[told.run] = told.detail
    elif told.kind == "words":
        evidence.words[told.run] = told.detail
    elif told.kind == "leak":
        evidence.leaks.append(told.detail)
    elif told.kind == "idle":
        evidence.faults.append(told.detail)


def _read_logs(evidence: Evidence, rows: Iterable[dict[str, Any]]) -> None:
    logs: dict[str, list[Stored]] = {}
    for row in rows:
        stored = Stored(row["seq"], row["key"], base64.b64decode(row["data"]))
        logs.setdefault(row["run"], []).append(stored)
    for run, found in logs.items():
        try:
            history: History | None = read_history(run, found)
        except (HistoryCorrupted, HistoryLost) as error:
            evidence.unreadable[run] = str(error)
        else:
            if history is not None:
                evidence.histories[run] = history


def _read_ledger(evidence: Evidence, path: Path) -> None:
    store = Store(path)
    evidence.calls = store.calls()
    evidence.acts += store.acts()
    evidence.acknowledged = store.acknowledged()
    evidence.faults = store.faults()
    store.close()
