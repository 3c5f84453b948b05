"""Timers as scheduled messages: the server holds them and fires them into the partition."""

from datetime import UTC, datetime, timedelta

from .api import header_block, publish, purge
from .link import Link
from .names import Names

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = datetime(9999, 1, 1, tzinfo=UTC)


def schedule_at(due: int) -> str:
    """Return the schedule for a time in microseconds since 1970."""
    try:
        moment = min(_EPOCH + timedelta(microseconds=due), _LATEST)
    except OverflowError:
        moment = _LATEST
    return moment.strftime("@at %Y-%m-%dT%H:%M:%S.%fZ")


class NatsTimers:
    """`offbook.actors.ports.Timers` on a stream with schedules."""

    def __init__(self, link: Link, names: Names) -> None:
        self._link = link
        self._names = names

    async def arm(self, lane: str, run: str, timer: str, due: int) -> None:
        """Set or move a timer; a schedule on a subject replaces the one before it."""
        headers = {
            "Nats-Schedule": schedule_at(due),
            "Nats-Schedule-Target": self._names.fired(lane, run),
        }
        subject = self._names.timer(run, timer).encode()
        await publish(self._link, subject, b"", header_block(headers))

    async def disarm(self, run: str, timer: str) -> None:
        """Remove one timer, best effort."""
        await purge(self._link, self._names.timers, self._names.timer(run, timer))

    async def clear(self, run: str) -> None:
        """Remove all timers of a run, best effort."""
        await purge(self._link, self._names.timers, self._names.timers_of(run))
