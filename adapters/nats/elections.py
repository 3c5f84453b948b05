"""New leaders: what the one before was asked, and has not answered, it never will."""

from collections.abc import Iterator

from .link import Link
from .names import Names
from .streams import all_streams

ELECTED = "$JS.EVENT.ADVISORY.*.LEADER_ELECTED.>"
"""Where the servers tell of new leaders of streams and consumers."""

PATIENCE = 1.0
"""Seconds after which an answer that does not come is asked for again, where servers are several.

Of the leader of the whole cluster no word comes when it is a new one.
"""

_API = b"$JS.API."
_WILDCARDS = ">*"


class Elections:
    """Tells those who wait for the leader of a stream or consumer that there is a new one.

    A server that dies takes the publishes and the pulls with it that it had not answered, while
    the connection of whoever waits stands, to another server. These words may be missed: then
    whoever waits asks again, or deadlines and heartbeats find out, later.
    """

    def __init__(self, link: Link, names: Names) -> None:
        self._link = link
        self._names = names
        self._prefixes: dict[str, list[bytes]] = {}

    def open(self) -> None:
        """Listen, where there is anybody to elect."""
        if self._names.namespace.replicas > 1:
            self._prefixes = dict(_prefixes(self._names))
            self._link.patience = PATIENCE
            self._link.listen(ELECTED, self._heard)

    def _heard(self, subject: bytes, _reply: bytes, _headers: bytes, _data: bytes) -> None:
        _, _, _, kind, _, stream, *consumer = subject.decode().split(".")
        if kind == "CONSUMER":
            self._link.elected(f"{stream}.{consumer[0]}")
        elif kind == "STREAM" and stream in self._prefixes:
            prefixes, name = tuple(self._prefixes[stream]), stream.encode()
            self._link.give_up(
                lambda asked: (
                    asked.startswith(prefixes)
                    or (asked.startswith(_API) and name in asked.split(b"."))
                ),
                f"{stream} has a new leader",
            )


def _prefixes(names: Names) -> Iterator[tuple[str, list[bytes]]]:
    for config in all_streams(names):
        yield (
            config["name"],
            [subject.rstrip(_WILDCARDS).encode() for subject in config["subjects"]],
        )
