"""Stored histories, and what a broken disk or a stranger may make of them."""

import random
from collections.abc import Callable
from dataclasses import replace

from offbook.actors.model import (
    Record,
    Stored,
    Writer,
    decode_record,
    encode_record,
    key_of,
)

Rows = list[Stored]
Mutation = Callable[[random.Random, "Shelf", Rows], Rows | None]
"""Takes the messages of one run's log and returns others; None where it cannot be done."""


class Shelf:
    """The logs of many runs."""

    def __init__(self, logs: dict[str, Rows]) -> None:
        self.logs = logs
        self.runs = sorted(logs)

    def other(self, rng: random.Random, rows: Rows) -> Rows:
        """Return the log of another run."""
        while True:
            found = self.logs[rng.choice(self.runs)]
            if found[0].data != rows[0].data:
                return found


def flip(rng: random.Random, _shelf: Shelf, rows: Rows) -> Rows:
    """Turn one to three bits over."""
    place = rng.randrange(len(rows))
    data = bytearray(rows[place].data)
    for _ in range(rng.randint(1, 3)):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return _with(rows, place, bytes(data))


def cut(rng: random.Random, _shelf: Shelf, rows: Rows) -> Rows:
    """Keep the beginning of a message."""
    place = rng.randrange(len(rows))
    data = rows[place].data
    return _with(rows, place, data[: rng.randrange(len(data))])


def lengthen(rng: random.Random, _shelf: Shelf, rows: Rows) -> Rows:
    """Put bytes behind a message."""
    place = rng.randrange(len(rows))
    return _with(rows, place, rows[place].data + rng.randbytes(rng.randint(1, 40)))


def scramble(rng: random.Random, _shelf: Shelf, rows: Rows) -> Rows:
    """Put other bytes into the midst of a message."""
    place = rng.randrange(len(rows))
    data = rows[place].data
    begin = rng.randrange(len(data))
    end = min(len(data), begin + rng.randint(1, 24))
    return _with(rows, place, data[:begin] + rng.randbytes(end - begin) + data[end:])


def delete(rng: random.Random, _shelf: Shelf, rows: Rows) -> Rows | None:
    """Remove a message that is not the newest."""
    if len(rows) < 2:
        return None
    place = rng.randrange(len(rows) - 1)
    return rows[:place] + rows[place + 1 :]


def swap(rng: random.Random, _shelf: Shelf, rows: Rows) -> Rows | None:
    """Put two messages in each other's place."""
    if len(rows) < 2:
        return None
    one, other = rng.sample(range(len(rows)), 2)
    return _with(_with(rows, one, rows[other].data), other, rows[one].data)


def duplicate(rng: random.Random, _shelf: Shelf, rows: Rows) -> Rows | None:
    """Put a message at the end once more, as the next record or under its own key."""
    row = rng.choice(rows)
    key = rng.choice((key_of(len(rows)), row.key))
    return [*rows, Stored(rows[-1].seq + 1, key, row.data)]


def foreign(rng: random.Random, shelf: Shelf, rows: Rows) -> Rows:
    """Put the record of another run in the place of one, or behind them all."""
    other = shelf.other(rng, rows)
    place = rng.randrange(len(rows) + 1)
    data = other[min(place, len(other) - 1)].data
    if place < len(rows):
        return _with(rows, place, data)
    return [*rows, Stored(rows[-1].seq + 1, key_of(place), data)]


def old(rng: random.Random, _shelf: Shelf, rows: Rows) -> Rows | None:
    """Put an earlier record of the run in the place of a later one."""
    if len(rows) < 3:
        return None
    later = rng.randrange(2, len(rows))
    return _with(rows, later, rows[rng.randrange(1, later)].data)


def overwrite(rng: random.Random, _shelf: Shelf, rows: Rows) -> Rows | None:
    """Put another good record in the place of one that has successors, without a fence."""
    if len(rows) < 3:
        return None
    place = rng.randrange(1, len(rows) - 1)
    record = decode_record(rows[place].data)
    forged = _forged(rng, record)
    return _with(rows, place, encode_record(forged))


def move(rng: random.Random, _shelf: Shelf, rows: Rows) -> Rows:
    """Store a message again, at a later place of the stream, as a replacement would be."""
    place = rng.randrange(len(rows))
    row = rows[place]
    seq = rows[-1].seq + rng.randint(1, 9)
    return [*rows[:place], Stored(seq, row.key, row.data), *rows[place + 1 :]]


def _forged(rng: random.Random, record: Record) -> Record:
    if rng.random() < 0.5:
        return replace(record, writer=Writer("somebody", record.writer.epoch))
    return replace(record, at=record.at + 1)


def _with(rows: Rows, place: int, data: bytes) -> Rows:
    changed = list(rows)
    changed[place] = Stored(rows[place].seq, rows[place].key, data)
    return changed


MUTATIONS: tuple[Mutation, ...] = (
    flip, cut, lengthen, scramble, delete, swap, duplicate, foreign, old, overwrite, move,
)  # fmt: skip
