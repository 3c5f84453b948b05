"""What a reader makes of a channel: a pure fold over its messages, the same for every reader.

Of the attempts of a step only one counts. Until the step's outcome is recorded that is the one
that began to write last; a *seal* then names the winner, and what others wrote, before or after
it, counts no more. So a stale attempt that still writes reaches nobody.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from .chunks import CHUNKS, CLOSE, END, SEAL, Message, Place, Source, Span
from .ports import Channel

Key = tuple[str, str]


@dataclass(slots=True, frozen=True)
class Withdrawn:
    """All chunks of this attempt count no more."""

    place: Place
    source: Source


@dataclass(slots=True, frozen=True)
class Settled:
    """The chunks of this step will not be withdrawn any more."""

    source: Source


@dataclass(slots=True, frozen=True)
class Missed:
    """An attempt that did not count has won: its chunks are those from `first` on before `seq`."""

    source: Source
    first: int
    seq: int


@dataclass(slots=True, frozen=True)
class Closed:
    """Nothing that comes after this counts. `error` is set where the writer said so."""

    error: bytes | None = None


Item = Span | Withdrawn | Settled | Missed | Closed


@dataclass(slots=True)
class _Attempt:
    """What one attempt has written so far."""

    source: Source
    first: int
    next: int = 0
    closed: bool = False
    error: bytes | None = None


@dataclass(slots=True)
class _Step:
    """A step without an outcome: its current attempt and those it displaced."""

    current: _Attempt
    others: dict[str, _Attempt] = field(default_factory=dict[str, _Attempt])


class Fold:
    """Takes a channel's messages in order and says what they mean.

    survivors: by step, the nonce that is known to count; others are then passed over in silence.
    """

    def __init__(self, channel: Channel, survivors: Mapping[Key, str] | None = None) -> None:
        self.channel = channel
        self.survivors = survivors
        self.closed: Closed | None = None
        self._plain: dict[Key, int] = {}
        self._open: dict[Key, _Step] = {}
        self._passed: dict[Key, dict[str, _Attempt]] = {}
        self._sealed: dict[Key, str] = {}

    def __repr__(self) -> str:
        return f"<Fold of {self.channel} open={list(self._open)} closed={self.closed}>"

    def take(self, seq: int, message: Message) -> list[Item]:
        """Take the next message."""
        if self.closed is not None:
            return []
        source = message.source
        if message.kind == END:
            ours = source.run == self.channel.run
            return self._close(None) if ours and self.channel.run else []
        if message.kind == SEAL:
            return self._seal(seq, message)
        if not source.step:
            return self._take_plain(seq, message)
        return self._take_step(seq, message)

    def surviving(self) -> dict[Key, str]:
        """Return which attempt counts, by step, after all that was taken."""
        return self._sealed | {key: step.current.source.nonce for key, step in self._open.items()}

    # Writers whose words stand at once

    def _take_plain(self, seq: int, message: Message) -> list[Item]:
        key = message.source.key
        # Of a topic the beginning may be gone: who is met in the middle is taken from there.
        known = self._plain.get(key, 0 if self.channel.run else message.i)
        if message.kind == CLOSE:
            return self._close(message.body) if message.i == known and self.channel.run else []
        taken, following = _next_of(seq, message, known)
        self._plain[key] = following
        return [*taken]

    # Steps

    def _take_step(self, seq: int, message: Message) -> list[Item]:
        source = message.source
        if source.key in self._sealed:
            return []
        step = self._open.get(source.key)
        if self.passes_over(source):
            others = self._passed.setdefault(source.key, {}) if step is None else step.others
            self._displaced(seq, message, others)
            return []
        if step is None:
            attempt = self._begun(seq, message)
            if attempt is None:
                return []
            self._open[source.key] = _Step(attempt, self._passed.pop(source.key, {}))
            return self._written(seq, message, attempt)
        if step.current.source.nonce == source.nonce:
            return self._written(seq, message, step.current)
        return self._rival(seq, message, step)

    def passes_over(self, source: Source) -> bool:
        """Return whether an attempt is known not to count."""
        survivor = None if self.survivors is None else self.survivors.get(source.key)
        return survivor is not None and survivor != source.nonce

    def _begun(self, seq: int, message: Message) -> _Attempt | None:
        if message.i and self.channel.run:
            return None
        return _Attempt(message.source, seq, message.i)

    def _rival(self, seq: int, message: Message, step: _Step) -> list[Item]:
        source = message.source
        if source.nonce in step.others or source.attempt < step.current.source.attempt:
            self._displaced(seq, message, step.others)
            return []
        attempt = self._begun(seq, message)
        if attempt is None:
            return []
        old, step.current = step.current, attempt
        step.others[old.source.nonce] = old
        gone: list[Item] = [Withdrawn(Place(seq, -1), old.source)] if old.next else []
        return gone + self._written(seq, message, attempt)

    def _displaced(self, seq: int, message: Message, others: dict[str, _Attempt]) -> None:
        """Note what an attempt writes that does not count now: it may win yet."""
        attempt = others.get(message.source.nonce) or self._begun(seq, message)
        if attempt is not None:
            others[message.source.nonce] = attempt
            self._written(seq, message, attempt)

    def _written(self, seq: int, message: Message, attempt: _Attempt) -> list[Item]:
        if attempt.closed:
            return []
        if message.kind == CLOSE:
            if message.i == attempt.next:
                attempt.closed, attempt.error = True, message.body
            return []
        taken, attempt.next = _next_of(seq, message, attempt.next)
        return [*taken]

    # Ends

    def _seal(self, seq: int, message: Message) -> list[Item]:
        source = message.source
        key = source.key
        if not source.step or key in self._sealed:
            return []
        step = self._open.pop(key, None)
        if step is None:
            self._sealed[key] = source.nonce
            return []
        winner, items = step.current, list[Item]()
        if source.nonce and source.nonce != winner.source.nonce:
            if winner.next:
                items.append(Withdrawn(Place(seq, -1), winner.source))
            found = step.others.get(source.nonce)
            if found is not None and found.next:
                items.append(Missed(found.source, found.first, seq))
            winner = found or _Attempt(source, seq)
        self._sealed[key] = winner.source.nonce
        items.append(Settled(winner.source))
        return items + (self._close(winner.error) if winner.closed else [])

    def _close(self, error: bytes | None) -> list[Item]:
        self.closed = Closed(error)
        return [self.closed]


def _next_of(seq: int, message: Message, expected: int) -> tuple[list[Span], int]:
    """Return the chunks of a message that come next, and the number that comes after them."""
    skip = expected - message.i
    if skip < 0 or message.kind != CHUNKS or skip >= len(message.body):
        return [], expected
    return [Span(seq, message, skip)], message.following
