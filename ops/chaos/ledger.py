"""The outside world: what step bodies really did, in a process and a database of its own.

`python -m offbook.ops.chaos.ledger SOCKET DATABASE` serves; it answers once a line is on the
disk (WAL, synchronous FULL; lines that come together share one commit). It refuses nothing.
"""

import asyncio
import json
import sqlite3
import sys
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from .evidence import Acknowledged, Act, Call, Pulse

_TABLES = """
create table if not exists call (id integer primary key, at int, pid int, run text, step text,
  attempt int, phase text check (phase in ('enter', 'exit', 'raise')), label text, key text,
  sha text);
create table if not exists effect (key text primary key, first_call int, n int default 1);
create table if not exists act (id integer primary key, kind text, at int, pid int, until int);
create table if not exists acknowledged (id integer primary key, at int, worker text, run text,
  n int);
create table if not exists pulse (id integer primary key, at int, pid int, tasks int);
create table if not exists fault (id integer primary key, pid int, what text);
"""
_COUNT = "insert into effect values (?, ?, 1) on conflict(key) do update set n = n + 1"
_COLUMNS = {
    "call": tuple(field.name for field in fields(Call)),
    "act": tuple(field.name for field in fields(Act)),
    "acknowledged": tuple(field.name for field in fields(Acknowledged)),
    "pulse": tuple(field.name for field in fields(Pulse)),
    "fault": ("pid", "what"),
}


class Store:
    """The database."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("pragma journal_mode = wal")
        self._db.execute("pragma synchronous = full")
        self._db.executescript(_TABLES)

    def write(self, lines: Iterable[dict[str, Any]]) -> None:
        """Keep lines, all or none."""
        self._db.execute("begin")
        for line in lines:
            table = line["table"]
            columns = _COLUMNS[table]
            marks = ", ".join("?" * len(columns))
            made = self._db.execute(
                f"insert into {table} ({', '.join(columns)}) values ({marks})",  # noqa: S608 - ours
                [line["row"][name] for name in columns],
            )
            if table == "call" and line["row"]["key"] and line["row"]["phase"] == "enter":
                self._db.execute(_COUNT, (line["row"]["key"], made.lastrowid))
        self._db.execute("commit")

    def calls(self) -> list[Call]:
        """Return what bodies did, oldest first."""
        return [Call(*row) for row in self._rows("call", "at, id")]

    def acts(self) -> list[Act]:
        """Return what processes told of themselves."""
        return [Act(*row) for row in self._rows("act", "id")]

    def acknowledged(self) -> list[Acknowledged]:
        """Return which records workers were told to stand."""
        return [Acknowledged(*row) for row in self._rows("acknowledged", "id")]

    def pulses(self) -> list[Pulse]:
        """Return how many tasks processes had."""
        return [Pulse(*row) for row in self._rows("pulse", "id")]

    def faults(self) -> list[str]:
        """Return what failed in processes."""
        return [f"process {pid}: {what}" for pid, what in self._rows("fault", "id")]

    def repeated(self) -> int:
        """Return how many effects came more than once with one key."""
        (found,) = self._db.execute("select count(*) from effect where n > 1").fetchone()
        return int(found)

    def _rows(self, table: str, order: str) -> list[tuple[Any, ...]]:
        columns = ", ".join(_COLUMNS[table])
        return self._db.execute(
            f"select {columns} from {table} order by {order}"  # noqa: S608 - ours
        ).fetchall()

    def close(self) -> None:
        """Close the database."""
        self._db.close()


class _Server:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._batch: list[tuple[dict[str, Any], asyncio.StreamWriter]] = []
        self._news = asyncio.Event()
        self._hearing: dict[asyncio.StreamWriter, asyncio.Task[None] | None] = {}

    async def end(self) -> None:
        """End the connections that are left."""
        tasks = {task for task in self._hearing.values() if task is not None}
        for writer in tuple(self._hearing):
            writer.close()
        if tasks:
            await asyncio.wait(tasks)

    async def hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._hearing[writer] = asyncio.current_task()
        # A killed writer resets the connection; what it had sent is read first.
        with suppress(ConnectionError):
            while line := await reader.readline():
                if line.endswith(b"\n"):
                    self._batch.append((json.loads(line), writer))
                    self._news.set()
        del self._hearing[writer]
        writer.close()

    async def keep(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            batch, self._batch = self._batch, []
            await asyncio.to_thread(self._store.write, [line for line, _ in batch])
            for line, writer in batch:
                if line["id"] and not writer.is_closing():
                    writer.write(b"%d\n" % line["id"])


async def serve(socket: str, database: str) -> None:
    """Serve until stdin ends."""
    store = Store(Path(database))
    server = _Server(store)
    async with await asyncio.start_unix_server(server.hear, socket):
        keeping = asyncio.create_task(server.keep())
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)
        await server.end()
        keeping.cancel()
    store.close()


class Pen:
    """A process's way to the ledger. What is written without `await` is not waited for."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._last = 0
        self._listening = asyncio.ensure_future(self._listen())

    async def _listen(self) -> None:
        while line := await self._reader.readline():
            found = self._waiting.pop(int(line), None)
            if found is not None and not found.done():
                found.set_result(None)
        for future in self._waiting.values():
            future.cancel()

    def note(self, fact: Call | Act | Acknowledged | Pulse) -> None:
        """Write a line."""
        self._send(0, type(fact).__name__.lower(), asdict(fact))

    def note_fault(self, pid: int, what: str) -> None:
        """Write that something failed which nobody had asked for."""
        self._send(0, "fault", {"pid": pid, "what": what})

    async def keep(self, fact: Call) -> None:
        """Write a line, and return once it is on the disk."""
        self._last += 1
        number, done = self._last, asyncio.get_running_loop().create_future()
        self._waiting[number] = done
        self._send(number, "call", asdict(fact))
        await done

    def _send(self, number: int, table: str, row: dict[str, Any]) -> None:
        line = {"id": number, "table": table, "row": row}
        self._writer.write(json.dumps(line).encode() + b"\n")


@asynccontextmanager
async def pen(socket: str) -> AsyncGenerator[Pen]:
    """Connect to the ledger."""
    reader, writer = await asyncio.open_unix_connection(socket)
    made = Pen(reader, writer)
    try:
        yield made
    finally:
        await writer.drain()
        writer.close()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:]))
