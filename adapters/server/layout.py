"""The folder of an embedded server: its files, its locks, and what is written into them.

All processes of the folder meet here, and only here:

- `lock`: held shared by every open client. The supervisor leaves when it gets it exclusively.
- `supervisor.lock`: held exclusively by the supervisor for its life; its pid is inside.
- `server.pid`: held exclusively by nats-server for its life (it inherits the descriptor); its pid
  is inside. So a server that outlived its supervisor is known without guessing from a number.
- `server.json`: port and credentials, private to the user, the same across restarts.
- `server.conf`, `server.log`, `supervisor.log`, `data/`.

A lock by `flock` belongs to the open descriptor and ends with the last process that holds it,
however that process ends. This module raises only OSError and WrongFormat, to stay light for the
supervisor.
"""

import contextlib
import json
import os
import secrets
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, cast

if sys.platform != "win32":
    import fcntl

FORMAT: Final = 1
LINGER_VARIABLE: Final = "OFFBOOK_SERVER_LINGER"
LINGER_SECONDS: Final = 10.0
LINGER_SECONDS_MAX: Final = 86_400.0
ENVIRONMENT: Final = {"GOGC": "30"}
"""Of nats-server, where nothing else is set: Go's collector looks what is free when memory has
grown by a third, not to the double. The index of waiting runs is most of a large server's."""

CLIENTS: Final = "lock"
SUPERVISOR: Final = "supervisor.lock"
SERVER: Final = "server.pid"
STATE: Final = "server.json"
CONFIG: Final = "server.conf"
SERVER_LOG: Final = "server.log"
SUPERVISOR_LOG: Final = "supervisor.log"
DATA: Final = "data"


class WrongFormat(ValueError):
    """The folder was written by another version of offbook."""


@dataclass(slots=True, frozen=True)
class State:
    """What stays the same across restarts of the server."""

    name: str
    port: int
    user: str
    password: str = field(repr=False)


def fresh_state(port: int) -> State:
    """Return new credentials for a port."""
    return State(f"offbook-{secrets.token_hex(8)}", port, "offbook", secrets.token_urlsafe(32))


def read_state(folder: Path) -> State | None:
    """Return the state, None where it is absent or torn. Raises WrongFormat and OSError."""
    try:
        found: object = json.loads((folder / STATE).read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    if not isinstance(found, dict):
        return None
    fields = cast("dict[str, Any]", found)
    if fields.pop("format", None) != FORMAT:
        raise WrongFormat(f"{STATE} was written by another version of offbook")
    try:
        return State(**fields)
    except TypeError:
        return None


def write_state(folder: Path, state: State) -> None:
    """Write the state so that readers see the old one or the new one, whole."""
    write_private(folder / STATE, json.dumps({"format": FORMAT, **asdict(state)}))


def write_private(path: Path, text: str) -> None:
    """Replace a file at once by one that only this user can read."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(fd)
    draft.replace(path)


def open_lock(path: Path) -> int:
    """Open a lock file, made if need be; the descriptor is not inheritable."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)


def try_lock(path: Path, *, shared: bool = False) -> int | None:
    """Take a lock without waiting; return its descriptor, or None where others hold it."""
    fd = open_lock(path)
    try:
        if lock(fd, shared=shared) and is_same_file(fd, path):
            return fd
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None


def lock(fd: int, *, shared: bool = False) -> bool:
    """Take the lock of an open descriptor without waiting; return whether it was had."""
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def unlock(fd: int) -> None:
    """Give up the lock of an open descriptor."""
    fcntl.flock(fd, fcntl.LOCK_UN)


def is_same_file(fd: int, path: Path) -> bool:
    """Return whether the path still leads to the open file: not moved, removed or replaced."""
    try:
        there = path.stat()
    except OSError:
        return False
    here = os.fstat(fd)
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)


def write_note(fd: int, **note: int) -> None:
    """Write a few numbers into an open lock file."""
    data = json.dumps(note).encode()
    os.pwrite(fd, data, 0)
    os.ftruncate(fd, len(data))


def read_note(path: Path) -> dict[str, int]:
    """Return what `write_note` wrote, empty where there is nothing to read."""
    with contextlib.suppress(OSError, ValueError):
        found: object = json.loads(path.read_bytes())
        if isinstance(found, dict):
            return cast("dict[str, int]", found)
    return {}


def linger_seconds() -> float:
    """Return how long a server waits for the next client. Raises ValueError on a bad setting."""
    value = float(os.environ.get(LINGER_VARIABLE) or LINGER_SECONDS)
    if not 0 <= value <= LINGER_SECONDS_MAX:
        raise ValueError(value)
    return value


def last_lines(path: Path, count: int = 8, size: int = 4096) -> list[str]:
    """Return the end of a log, empty where there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - size))
            text = file.read(size)
    except OSError:
        return []
    return text.decode(errors="replace").splitlines()[-count:]
