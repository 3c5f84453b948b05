"""The small process that keeps the nats-server of one folder, and leaves when nobody needs it.

Run as `python -m offbook.adapters.server.supervisor <folder> <nats-server> [<descriptor>]`. The
descriptor is the supervisor's lock, taken by the client that starts it: so there is never a moment
at which two are elected. With it the process detaches; without it, it stays in the foreground.

The order of leaving matters. First the clients' lock, exclusively: from here on newcomers wait.
Then the server stops. Then the supervisor's lock is free, then the clients' lock: a newcomer gets
that one first and asks for the supervisor after it, so it finds none and starts its own.
"""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from random import SystemRandom
from socket import SO_REUSEADDR, SOL_SOCKET, socket
from types import FrameType
from typing import Final

from . import layout
from .layout import State

_POLL_SECONDS: Final = 0.2
_STOP_SECONDS_MAX: Final = 10.0
_RESTART_SECONDS: Final = 0.05
_RESTART_SECONDS_MAX: Final = 2.0
_STEADY_SECONDS: Final = 5.0
_LOG_BYTES_MAX: Final = 1 << 20
_PORTS: Final = range(20_000, 32_000)
"""Below what Linux and macOS give to outgoing connections, which could take the port while the
server restarts, or even connect to themselves on it."""
_PR_SET_PDEATHSIG: Final = 1


def main(arguments: list[str]) -> int:
    """Keep the server of a folder until no client is left."""
    os.umask(0o077)
    folder, binary = Path(arguments[0]), Path(arguments[1])
    if len(arguments) > 2:  # noqa: PLR2004  (the third is the descriptor)
        held: int | None = int(arguments[2])
        if os.fork():
            return 0
    else:
        held = layout.try_lock(folder / layout.SUPERVISOR)
    if held is None:
        _log("another supervisor keeps this folder")
        return 0
    os.set_inheritable(held, False)  # noqa: FBT003  (positional only)
    Supervisor(folder, binary, held).run()
    return 0


class Supervisor:
    """Keeps one nats-server running while any client holds the folder's lock."""

    def __init__(self, folder: Path, binary: Path, held: int) -> None:
        self._folder = folder
        self._binary = binary
        self._held = held
        self._clients = layout.open_lock(folder / layout.CLIENTS)
        self._linger = layout.linger_seconds()
        self._idle_since: float | None = None
        self._server = 0
        self._started = 0.0
        self._start_at = 0.0
        self._backoff = _RESTART_SECONDS
        self._restarts = 0
        self._signalled = False
        self._wake_up, self._wake_up_write = os.pipe()

    def run(self) -> None:
        """Return when no client is left, the folder is gone, or a signal says so."""
        self._listen()
        self._note()
        _log(f"supervisor {os.getpid()} keeps {self._folder}")
        try:
            while not self._is_over():
                self._reap()
                self._keep()
                self._pause(self._seconds_to_next())
        finally:
            self._leave()

    def _listen(self) -> None:
        for end in (self._wake_up, self._wake_up_write):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(self._wake_up_write)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._signalled = True

    def _pause(self, seconds: float) -> None:
        """Sleep, but wake up at once when a signal comes, such as the death of the server."""
        if select.select([self._wake_up], [], [], seconds)[0]:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake_up, 4096)

    def _seconds_to_next(self) -> float:
        if self._server:
            return _POLL_SECONDS
        return min(_POLL_SECONDS, max(0.0, self._start_at - time.monotonic()))

    def _note(self) -> None:
        layout.write_note(self._held, pid=os.getpid(), restarts=self._restarts)

    def _is_over(self) -> bool:
        if self._signalled:
            _log("a signal asks to stop")
            return True
        if not self._is_in_place():
            _log("the folder was moved or removed")
            return True
        return self._is_deserted()

    def _is_in_place(self) -> bool:
        clients, own = self._folder / layout.CLIENTS, self._folder / layout.SUPERVISOR
        return layout.is_same_file(self._clients, clients) and layout.is_same_file(self._held, own)

    def _is_deserted(self) -> bool:
        """Return whether no client came for the grace; if so, the clients' lock is ours."""
        if not layout.lock(self._clients):
            self._idle_since = None
            return False
        now = time.monotonic()
        if self._idle_since is None:
            self._idle_since = now
        if now - self._idle_since >= self._linger:
            _log("no client is left")
            return True
        layout.unlock(self._clients)
        return False

    def _reap(self) -> None:
        if not self._server:
            return
        pid, status = os.waitpid(self._server, os.WNOHANG)
        if not pid:
            return
        self._server = 0
        lived = time.monotonic() - self._started
        delay = _RESTART_SECONDS if lived > _STEADY_SECONDS else self._backoff
        self._backoff = min(delay * 2, _RESTART_SECONDS_MAX)
        self._start_at = time.monotonic() + delay
        self._restarts += 1
        self._note()
        cause = f"{_cause(status)} after {lived:.1f} s"
        _log(f"nats-server {pid} died ({cause}); starting another in {delay:g} s")

    def _keep(self) -> None:
        if self._server or time.monotonic() < self._start_at:
            return
        slot = _claim(self._folder / layout.SERVER)
        try:
            self._start(slot)
        finally:
            os.close(slot)

    def _start(self, slot: int) -> None:
        state = _state(self._folder)
        config = self._folder / layout.CONFIG
        layout.write_private(config, _config(state))
        if not os.access(self._binary, os.X_OK):
            raise FileNotFoundError(self._binary)
        self._started = time.monotonic()
        self._server = _launch([str(self._binary), "-c", str(config)], self._folder, slot)
        _log(f"nats-server {self._server} started on port {state.port}")

    def _leave(self) -> None:
        try:
            self._stop_server()
        finally:
            with contextlib.suppress(OSError):
                os.ftruncate(self._held, 0)
            _log("supervisor leaves")
            os.close(self._held)
            os.close(self._clients)

    def _stop_server(self) -> None:
        if not self._server:
            return
        os.kill(self._server, signal.SIGTERM)
        deadline = time.monotonic() + _STOP_SECONDS_MAX
        while not os.waitpid(self._server, os.WNOHANG)[0]:
            if time.monotonic() > deadline:
                _log("nats-server does not stop; killed")
                os.kill(self._server, signal.SIGKILL)
                os.waitpid(self._server, 0)
                return
            self._pause(_POLL_SECONDS)


def _log(text: str) -> None:
    """Write a line to the log, which is the standard error, and keep that from growing."""
    with contextlib.suppress(OSError):
        if os.fstat(2).st_size > _LOG_BYTES_MAX:
            os.ftruncate(2, 0)
        os.write(2, f"{datetime.now().astimezone():%Y-%m-%d %H:%M:%S.%f} {text}\n".encode())


def _cause(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"exit code {code}" if code >= 0 else f"signal {-code}"


def _state(folder: Path) -> State:
    """Return the folder's state; make one where there is none or its port is taken."""
    state = layout.read_state(folder)
    if state is not None and _is_free(state.port):
        return state
    port = _free_port()
    if state is None:
        state = layout.fresh_state(port)
    else:
        _log(f"port {state.port} is taken by another program")
        state = State(state.name, port, state.user, state.password)
    layout.write_state(folder, state)
    return state


def _free_port() -> int:
    for port in SystemRandom().sample(_PORTS, 1000):
        if _is_free(port):
            return port
    raise OSError("no port is free on 127.0.0.1")


def _is_free(port: int) -> bool:
    with socket() as probe:
        probe.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _config(state: State) -> str:
    """Return the server's configuration; its paths are relative to the folder."""
    return f"""\
server_name: "{state.name}"
listen: "127.0.0.1:{state.port}"
authorization {{ user: "{state.user}", password: "{state.password}" }}
jetstream {{ store_dir: "{layout.DATA}", sync_interval: always }}
log_file: "{layout.SERVER_LOG}"
log_size_limit: 4194304
log_max_num: 2
"""


def _claim(path: Path) -> int:
    """Take the server's lock; a server that outlived its supervisor is killed for it."""
    deadline = time.monotonic() + _STOP_SECONDS_MAX
    while (slot := layout.try_lock(path)) is None:
        pid = layout.read_note(path).get("pid", 0)
        if pid and _is_server(pid):
            _log(f"nats-server {pid} outlived its supervisor; killed")
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            raise TimeoutError(f"nats-server {pid} of this folder does not end")
        time.sleep(0.02)
    os.ftruncate(slot, 0)
    return slot


def _is_server(pid: int) -> bool:
    """Return whether a process is a nats-server: a pid from a file may have a new bearer."""
    try:
        command = _command_of(pid)
    except OSError:
        return False
    return b"nats-server" in command and layout.CONFIG.encode() in command


def _command_of(pid: int) -> bytes:
    if sys.platform == "linux":
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    command = ["/bin/ps", "-ww", "-o", "command=", "-p", str(pid)]
    return subprocess.run(command, capture_output=True, check=False).stdout  # noqa: S603  (fixed)


def _die_with_parent() -> None:
    """Have this process killed when its parent ends, where the system knows how to.

    Elsewhere clients mend it: the supervisor that they start kills who holds the server's lock.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _launch(command: list[str], folder: Path, slot: int) -> int:
    """Start the server with its lock as an open descriptor and its pid inside; return the pid."""
    parent = os.getpid()
    child = os.fork()
    if child:
        return child
    try:
        _die_with_parent()
        if os.getppid() == parent:
            os.chdir(folder)
            os.set_inheritable(slot, True)  # noqa: FBT003  (positional only)
            layout.write_note(slot, pid=os.getpid())
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            os.execve(command[0], command, {**layout.ENVIRONMENT, **os.environ})  # noqa: S606  (no shell is wanted)
    except OSError as error:
        _log(f"{command[0]} cannot be started: {error}")
    finally:
        os._exit(127)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
