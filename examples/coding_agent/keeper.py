"""Keeps one command: starts it under limits, and ends it with all that it has started.

It stands between a worker and the command, in a process of its own. Standard input is a pipe from
the worker: when that ends, as it does when the worker dies, the command ends too. The command's
output is the keeper's. What the keeper has to say goes to standard error, as one JSON object.

    python -I -S keeper.py ORDER
"""

import ctypes
import json
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

Order = dict[str, Any]
PROC = Path("/proc")
LINUX = sys.platform == "linux"
_SET_CHILD_SUBREAPER, _SET_NO_NEW_PRIVS = 36, 38
_LOOK_SECONDS = 0.1


def main() -> int:
    """Keep the command of the order in the arguments, to its end."""
    order: Order = json.loads(sys.argv[1])
    bell, ring = os.pipe()
    os.set_blocking(ring, False)
    signal.set_wakeup_fd(ring)
    signal.signal(signal.SIGCHLD, _wake)
    _prctl(_SET_CHILD_SUBREAPER)
    child = os.fork()
    if child == 0:
        _become(order)
    verdict = _watch(child, order, bell)
    _end_all(child)
    os.write(2, json.dumps(verdict).encode())
    return 0


def _wake(_number: int, _frame: object) -> None:
    """Let the signal ring the bell."""


def _prctl(option: int) -> None:
    if LINUX:
        ctypes.CDLL(None).prctl(option, 1, 0, 0, 0)


# The child


def _become(order: Order) -> NoReturn:
    """Turn into the command."""
    try:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(1, 2)
        os.umask(0o077)
        _limit(order)
        _prctl(_SET_NO_NEW_PRIVS)
        if order["user"] is not None:
            os.setgroups([])
            os.setgid(order["user"])
            os.setuid(order["user"])
        os.chdir(order["folder"])
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        command: list[str] = order["command"]
        os.execve(command[0], command, order["environment"])  # noqa: S606 - the command is the shell
    except (OSError, ValueError) as error:
        os.write(1, f"it could not be started: {error}\n".encode())
    finally:
        os._exit(126)


def _limit(order: Order) -> None:
    memory = "RLIMIT_DATA" if LINUX else "RLIMIT_AS"
    limits: dict[str, int] = {
        "RLIMIT_CPU": int(order["seconds"]) + 1,
        "RLIMIT_CORE": 0,
        "RLIMIT_FSIZE": order["file"],
        "RLIMIT_NOFILE": order["open"],
        memory: order["memory"],
    }
    if LINUX:
        limits["RLIMIT_NPROC"] = order["processes"] + _tasks_of(order["user"])
    for name, limit in limits.items():
        with suppress(ValueError):  # above what this process may have itself
            resource.setrlimit(getattr(resource, name), (limit, limit))


def _tasks_of(user: int | None) -> int:
    """Return how many tasks a user has: the limit counts all of them. One of our own has none."""
    mine = os.getuid()
    return sum(_threads(pid) for pid in _pids() if _owner(pid) == mine) if user is None else 0


# Watching


def _watch(child: int, order: Order, bell: int) -> Order:
    """Return how the command ended, or which limit is to end it."""
    look = now = time.monotonic()
    deadline = now + order["seconds"]
    while (code := _reaped(child)) is None:
        now = time.monotonic()
        if now >= deadline:
            return {"code": -signal.SIGKILL, "reason": "time"}
        if now >= look:
            look = now + _LOOK_SECONDS
            if sum(map(_memory, _family())) > order["memory"]:
                return {"code": -signal.SIGKILL, "reason": "memory"}
        ready, _, _ = select.select([0, bell], [], [], max(0.0, min(deadline, look) - now))
        if bell in ready:
            os.read(bell, 512)
        if 0 in ready and not os.read(0, 512):
            return {"code": -signal.SIGKILL, "reason": "stopped"}
    return {"code": code, "reason": ""}


def _reaped(child: int) -> int | None:
    """Bury who has ended, the command's orphans among them; return the code of the command."""
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == child:
                return os.waitstatus_to_exitcode(status)
            if pid == 0:
                break
    return None


def _end_all(child: int) -> None:
    """End the command and what it has started, until nothing of it is left."""
    while True:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child, signal.SIGKILL)
        for pid in _family():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.005)


# What /proc tells


def _pids() -> Iterator[int]:
    if LINUX:
        yield from (int(name) for name in os.listdir(PROC) if name.isdecimal())  # noqa: PTH208 - names


def _family() -> list[int]:
    """Return who descends from this process: orphans come back to it."""
    parents = {pid: parent for pid in _pids() if (parent := _parent(pid)) is not None}
    found = {os.getpid()}
    grown = True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        grown = bool(more)
        found |= more
    return sorted(found - {os.getpid()})


def _parent(pid: int) -> int | None:
    try:
        stat = (PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return None
    return int(stat.rpartition(b")")[2].split()[1])


def _memory(pid: int) -> int:
    """Return how many bytes of memory a process holds, what it shares with others included."""
    try:
        lines = (PROC / str(pid) / "status").read_bytes().splitlines()
    except OSError:
        return 0
    told = (line.split() for line in lines if line.startswith((b"RssAnon:", b"RssShmem:")))
    return sum(int(words[1]) * 1024 for words in told)


def _owner(pid: int) -> int | None:
    try:
        return (PROC / str(pid)).stat().st_uid
    except OSError:
        return None


def _threads(pid: int) -> int:
    try:
        return len(os.listdir(PROC / str(pid) / "task"))  # noqa: PTH208 - how many
    except OSError:
        return 0


if __name__ == "__main__":
    sys.exit(main())
