"""Channels as runs write them: scripts drawn at random, what they mean, and a store of them."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from offbook.actors.chunks import CHUNKS, CLOSE, END, SEAL, Message, Source
from offbook.actors.ports import Channel, Posted, Refused

CHANNEL = Channel("words", "run")

Heard = Callable[[Posted | None, int], None]


def chunk(source: Source, i: int, count: int = 1) -> Message:
    """Return a message of chunks that tell whose they are."""
    body = [f"{source.step}{source.nonce}{n}".encode() for n in range(i, i + count)]
    return Message(CHUNKS, source, i, 0, body)


def seal(source: Source, *, closed: bool = False) -> Message:
    return Message(SEAL, source, -1, 0, closed)


def close(source: Source, i: int) -> Message:
    return Message(CLOSE, source, i, 0)


def end(run: str = CHANNEL.run) -> Message:
    return Message(END, Source(run), 0, 0)


class Writer:
    """One execution, a body or a client: sends in order, and again where an answer is lost."""

    def __init__(self, chance: random.Random, source: Source, *, closes: bool = False) -> None:
        self.source = source
        self._chance = chance
        self._left = chance.randrange(5)
        self._closes = closes
        self._next = 0
        self._last: Message | None = None

    @property
    def done(self) -> bool:
        return not self._left and not self._closes

    def send(self) -> Message | None:
        """Return the next message."""
        if self._last is not None and self._chance.random() < 0.2:
            return self._last
        if self._left:
            count = self._chance.randint(1, self._left)
            self._last = chunk(self.source, self._next, count)
            self._left, self._next = self._left - count, self._next + count
        elif self._closes:
            self._closes = False
            self._last = close(self.source, self._next)
        return self._last


class Fences:
    """Marks what writers send behind their own messages, as their pipes do."""

    def __init__(self, chance: random.Random | None = None) -> None:
        self._chance = chance
        self._last: Source | None = None
        self._since = 0

    def mark(self, message: Message, seq: int) -> Message:
        """Return the message that is stored with this sequence."""
        source = message.source if message.kind in (CHUNKS, CLOSE) else None
        sure = self._chance is None or self._chance.random() < 0.9
        if source is not None and source == self._last and sure:
            return replace(message, since=self._since)
        self._last, self._since = source, seq
        return message


@dataclass
class Play:
    """One step: its executions, of which one is recorded; the others may write on."""

    step: str
    attempt: int = 1
    executions: list[Writer] = field(default_factory=list[Writer])
    outcome: Message | None = None


def script(chance: random.Random) -> Iterator[Message]:
    """Yield what the writers of one channel send, in an order that can happen."""
    plays = [Play(step) for step in "ab"[: chance.randint(1, 2)]]
    plain = [Writer(chance, Source(CHANNEL.run))]
    if chance.random() < 0.5:
        plain.append(Writer(chance, Source("other", nonce="p"), closes=chance.random() < 0.2))
    for _ in range(chance.randint(5, 40)):
        if chance.random() < 0.3:
            message = chance.choice(plain).send()
        else:
            message = _act(chance, chance.choice(plays))
        if message is not None:
            yield message
    for _ in range(2):
        yield end()
        yield from (m for p in plays for w in p.executions if (m := w.send()) is not None)


def _act(chance: random.Random, play: Play) -> Message | None:
    """Let a step go on: an execution begins or writes, or the outcome is recorded or sent again."""
    able = [w for w in play.executions if w.done and w.source.attempt == play.attempt]
    if play.outcome is not None and chance.random() < 0.3:
        return play.outcome
    if play.outcome is None and able and chance.random() < 0.4:
        winner = chance.choice(able).source
        play.outcome = seal(winner if chance.random() < 0.9 else _lost(winner))
        return play.outcome
    if play.outcome is None and (not play.executions or chance.random() < 0.25):
        play.attempt += bool(play.executions) and chance.random() < 0.5
        source = Source(CHANNEL.run, play.step, play.attempt, "xyzuvw"[len(play.executions) % 6])
        if len(play.executions) < 6:
            play.executions.append(Writer(chance, source, closes=chance.random() < 0.15))
    return chance.choice(play.executions).send()


def _lost(source: Source) -> Source:
    return Source(source.run, source.step, source.attempt)


@dataclass
class Known:
    """What the messages so far say of one step: who counts, and whether that is recorded."""

    counts: Source | None = None
    sealed: int | None = None
    met: set[Source] = field(default_factory=set[Source])
    closed: set[str] = field(default_factory=set[str])


def meaning(messages: list[Message]) -> list[bytes]:
    """Return the chunks that count in the end, by the rules as a reader of the docs has them."""
    steps: dict[tuple[str, str], Known] = {}
    until = next((n for n, m in enumerate(messages) if _ends(n, m, steps)), len(messages))
    found: list[bytes] = []
    following: dict[Source, int] = {}
    for at, message in enumerate(messages[:until]):
        if message.kind != CHUNKS or not _counts(at, message, steps):
            continue
        for n, payload in enumerate(message.body, message.i):
            if n == following.get(message.source, 0):
                following[message.source] = n + 1
                found.append(payload)
    return found


def _counts(at: int, message: Message, steps: dict[tuple[str, str], Known]) -> bool:
    if not message.source.step:
        return True
    known = steps[message.source.key]
    return known.counts == message.source and (known.sealed is None or at < known.sealed)


def _ends(at: int, message: Message, steps: dict[tuple[str, str], Known]) -> bool:
    """Take the next message; return whether the channel ends with it."""
    source = message.source
    if message.kind == END or (message.kind == CLOSE and not source.step):
        return True
    if not source.step:
        return False
    known = steps.setdefault(source.key, Known())
    if known.sealed is not None:
        return False
    if message.kind == SEAL:
        known.sealed = at
        known.counts = source if source.nonce else known.counts
        return known.counts is not None and known.counts.nonce in known.closed
    if message.kind == CLOSE:
        known.closed.add(source.nonce)
    if source not in known.met:
        known.met.add(source)
        if known.counts is None or source.attempt >= known.counts.attempt:
            known.counts = source
    return False


class Store:
    """Fills the port `Streams` for one channel; `unreliable` draws what becomes of each hint."""

    def __init__(self, unreliable: random.Random | None = None) -> None:
        self.posted: list[Posted] = []
        self.pages = 0
        self.read = 0
        self.listeners: list[Heard] = []
        self._chance = unreliable
        self._late: list[tuple[Posted, int]] = []

    @property
    def last(self) -> int:
        return self.posted[-1].seq if self.posted else 0

    def add(self, data: bytes, *, hole: int = 0) -> Posted:
        """Append a message, and tell of it as a network would."""
        before = self.last
        posted = Posted(before + 1 + hole, data)
        self.posted.append(posted)
        for hint in self._hints(posted, before):
            for heard in list(self.listeners):
                heard(*hint)
        return posted

    def _hints(self, posted: Posted, before: int) -> list[tuple[Posted | None, int]]:
        hints: list[tuple[Posted | None, int]] = [(posted, before)]
        if self._chance is None:
            return hints
        fate = self._chance.random()
        if fate < 0.2:
            return []
        if fate < 0.4:
            self._late.append((posted, before))
            return []
        if fate < 0.5:
            return [(None, 0)]
        if fate < 0.7:
            hints.append((posted, before))
        if self._late and self._chance.random() < 0.7:
            hints.append(self._late.pop())
        return hints

    async def append(self, channel: Channel, data: bytes, after: int | None = None) -> int:
        assert channel == CHANNEL
        if after is not None and after != self.last:
            raise Refused("others wrote meanwhile")
        return self.add(data).seq

    async def page(self, channel: Channel, after: int, limit: int) -> list[Posted]:
        assert channel == CHANNEL
        self.pages += 1
        found = [posted for posted in self.posted if posted.seq > after][:limit]
        self.read += len(found)
        return found

    async def tail(self, channel: Channel) -> Posted | None:
        assert channel == CHANNEL
        return self.posted[-1] if self.posted else None

    async def names(self, run: str) -> list[str]:
        assert run == CHANNEL.run
        return [CHANNEL.name]

    async def watch(self, channel: Channel, heard: Heard) -> Callable[[], None]:
        assert channel == CHANNEL
        self.listeners.append(heard)
        return lambda: self.listeners.remove(heard)

    async def clear(self, run: str) -> None:
        assert run == CHANNEL.run
        self.posted.clear()
