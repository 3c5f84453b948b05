"""A client's hold on the server of its folder."""

import asyncio
import contextlib
import os
import subprocess
import sys
import sysconfig
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from offbook.actors.errors import (
    ClientClosed,
    EmbeddedServerFailed,
    InvalidOption,
    OffbookError,
    ServerFolderUnusable,
    ServerUnsupported,
)

from . import layout
from .binary import find_binary
from .handshake import NotReady, handshake
from .layout import State, WrongFormat

_WATCH_SECONDS: Final = 0.3
_WATCH_SECONDS_MAX: Final = 5.0
_RETRY_SECONDS: Final = 0.01
_RETRY_SECONDS_MAX: Final = 0.5
_HANDSHAKE_SECONDS_MAX: Final = 3.0
_SPAWN_SECONDS_MAX: Final = 20.0

_descriptors: set[int] = set()


def _drop_in_child() -> None:
    """A forked child holds no client; without this it would keep its parent's locks."""
    while _descriptors:
        with contextlib.suppress(OSError):
            os.close(_descriptors.pop())


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_drop_in_child)


def _release(fd: int) -> None:
    _descriptors.discard(fd)
    os.close(fd)


@dataclass(slots=True, frozen=True)
class ServerAddress:
    """How to reach the server. Every write to it is synced before it is acknowledged."""

    url: str
    user: str
    password: str = field(repr=False)
    version: str
    folder: Path


class EmbeddedServer:
    """Holds the nats-server of a folder: starts it if need be, keeps it while open.

    Any number of these, in any number of processes and threads, share one server for each folder.
    It listens on loopback only, keeps its port and credentials across restarts, and goes ten
    seconds after the last of them is closed or its process ended in any way; the time is set in
    seconds by OFFBOOK_SERVER_LINGER in the environment of the process that starts it.

    Args:
        folder: where the server's data, logs and credentials are; made if it does not exist.
        timeout: seconds that `open` waits for the server.
    """

    def __init__(self, folder: Path, *, timeout: float = 15.0) -> None:
        self._folder = Path(os.path.abspath(folder))  # noqa: PTH100  (resolve would follow links)
        self._timeout = timeout
        self._opening = asyncio.Lock()
        self._closing = asyncio.Event()
        self._fd: int | None = None
        self._address: ServerAddress | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._problem = ""

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        at = self._address.url if self._address else "not open"
        return f"<EmbeddedServer {self._folder} {at}>"

    @property
    def address(self) -> ServerAddress:
        """Where the server is now; the port moves only if another program took it meanwhile.

        Raises ClientClosed while this is not open.
        """
        if self._address is None:
            raise ClientClosed
        return self._address

    async def open(self) -> ServerAddress:
        """Return when the server takes connections and JetStream answers. May be called again.

        Raises ServerUnsupported, ServerFolderUnusable, ServerMissing, ServerTooOld, InvalidOption
        (OFFBOOK_SERVER_LINGER), or EmbeddedServerFailed after the timeout.
        """
        async with self._opening:
            if self._address is None:
                await self._open()
            return self.address

    async def _open(self) -> None:
        _check_setting()
        try:
            async with asyncio.timeout(self._timeout):
                self._fd = await self._join()
                self._address = await self._ready()
        except TimeoutError:
            self._leave()
            raise self._failed() from None
        except BaseException:
            self._leave()
            raise
        self._closing.clear()
        self._watcher = asyncio.create_task(self._watch(self._fd), name="offbook-server-watch")

    async def close(self) -> None:
        """Give up this hold. The server goes when nobody else holds it. May be called again."""
        async with self._opening:
            self._closing.set()
            try:
                if self._watcher is not None:
                    await self._watcher
            finally:
                self._watcher = None
                self._leave()

    def _leave(self) -> None:
        self._address = None
        if self._fd is not None:
            _release(self._fd)
            self._fd = None

    async def status(self) -> dict[str, Any]:
        """Return facts, open or not: ready, url, version, pids, restarts, folder, log, problem.

        `restarts` counts those under the present supervisor. Raises nothing about the server.
        """
        facts: dict[str, Any] = {"ready": False, "url": "", "version": "", "problem": self._problem}
        try:
            state = layout.read_state(self._folder)
            if state is not None:
                facts["url"] = _url(state)
                facts["version"] = await _greet(state)
                facts["ready"] = True
        except (NotReady, WrongFormat, OSError) as error:
            facts["problem"] = self._problem or str(error)
        note = layout.read_note(self._folder / layout.SUPERVISOR)
        server = layout.read_note(self._folder / layout.SERVER)
        return facts | {
            "supervisor": _living(note.get("pid")),
            "server": _living(server.get("pid")),
            "restarts": note.get("restarts", 0),
            "folder": str(self._folder),
            "log": str(self._folder / layout.SERVER_LOG),
        }

    async def _join(self) -> int:
        """Take the clients' lock, shared; wait while a supervisor is leaving."""
        with _usable(self._folder):
            _prepare(self._folder)
            while True:
                fd = layout.try_lock(self._folder / layout.CLIENTS, shared=True)
                if fd is not None:
                    _descriptors.add(fd)
                    return fd
                self._problem = "the server before this one does not stop"
                await asyncio.sleep(_RETRY_SECONDS)

    async def _ready(self) -> ServerAddress:
        delay = _RETRY_SECONDS
        while True:
            with _usable(self._folder):
                if await self._elect():
                    delay = min(delay * 2, _RETRY_SECONDS_MAX)
                state = layout.read_state(self._folder)
            try:
                if state is not None:
                    return self._address_of(state, await _greet(state))
            except NotReady as error:
                self._problem = str(error)
            await asyncio.sleep(delay)

    async def _elect(self) -> bool:
        """Start a supervisor where there is none; return whether that was tried."""
        free = _is_free(self._folder / layout.SUPERVISOR)
        if free:
            await asyncio.to_thread(_start_supervisor, self._folder)
        return free

    def _address_of(self, state: State, version: str) -> ServerAddress:
        return ServerAddress(_url(state), state.user, state.password, version, self._folder)

    async def _watch(self, fd: int) -> None:
        """While open, see to it that there is a supervisor; try less often while that fails."""
        delay = _WATCH_SECONDS
        while not await self._is_closing(delay):
            try:
                await self._tend(fd)
            except (OffbookError, OSError) as error:
                self._problem = str(error)
                delay = min(delay * 2, _WATCH_SECONDS_MAX)
            else:
                delay = _WATCH_SECONDS

    async def _is_closing(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                return await self._closing.wait()
        except TimeoutError:
            return False

    async def _tend(self, fd: int) -> None:
        with _usable(self._folder):
            if not layout.is_same_file(fd, self._folder / layout.CLIENTS):
                raise ServerFolderUnusable(str(self._folder), "it was moved or removed while open")
            await self._elect()
            state = layout.read_state(self._folder)
        if state is not None and self._address is not None:
            self._address = self._address_of(state, self._address.version)
        self._problem = ""

    def _failed(self) -> EmbeddedServerFailed:
        files = [self._folder / layout.SUPERVISOR_LOG, self._folder / layout.SERVER_LOG]
        lines = [line[:300] for file in files for line in layout.last_lines(file)]
        reason = f"{self._problem or 'it did not start'} (after {self._timeout:g} s)"
        return EmbeddedServerFailed(reason, str(files[1]), "\n".join(lines))


def _check_setting() -> None:
    if sys.platform == "win32":
        raise ServerUnsupported(sys.platform)
    if getattr(sys, "frozen", False) or not sys.executable:
        raise ServerUnsupported("a frozen or embedded Python")
    try:
        layout.linger_seconds()
    except ValueError:
        value = os.environ.get(layout.LINGER_VARIABLE)
        expected = f"a number of seconds from 0 to {layout.LINGER_SECONDS_MAX:g}"
        raise InvalidOption(layout.LINGER_VARIABLE, value, expected) from None


@contextlib.contextmanager
def _usable(folder: Path) -> Generator[None]:
    """Tell trouble with the folder as what it is."""
    try:
        yield
    except OffbookError:
        raise
    except WrongFormat as error:
        raise ServerFolderUnusable(str(folder), str(error)) from None
    except OSError as error:
        raise ServerFolderUnusable(str(folder), error.strerror or str(error)) from error


def _prepare(folder: Path) -> None:
    """Make the folder, private and unseen by git; refuse one that is not ours."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    owner = folder.stat().st_uid
    if owner != os.geteuid():
        reason = f"it belongs to user {owner}, this process runs as user {os.geteuid()}"
        raise ServerFolderUnusable(str(folder), reason)
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise ServerFolderUnusable(str(folder), "it cannot be written")
    with contextlib.suppress(FileExistsError), (folder / ".gitignore").open("x") as file:
        file.write("*\n")


def _is_free(path: Path) -> bool:
    fd = layout.try_lock(path, shared=True)
    if fd is not None:
        os.close(fd)
    return fd is not None


def _start_supervisor(folder: Path) -> None:
    """Start a supervisor that has its lock from us, unless somebody was faster."""
    held = layout.try_lock(folder / layout.SUPERVISOR)
    if held is None:
        return
    _descriptors.add(held)
    try:
        _spawn(folder, held)
    finally:
        _release(held)


def _spawn(folder: Path, held: int) -> None:
    log = folder / layout.SUPERVISOR_LOG
    module = f"{__package__}.supervisor"
    command = [sys.executable, "-P", "-m", module, str(folder), str(find_binary()), str(held)]
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        subprocess.run(  # noqa: S603  (our own interpreter, no shell)
            command,
            check=True,
            cwd=folder,
            env=_environment(),
            pass_fds=[held],
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            timeout=_SPAWN_SECONDS_MAX,
        )
    except subprocess.SubprocessError as error:
        lines = "\n".join(layout.last_lines(log))
        raise EmbeddedServerFailed(f"no supervisor: {error}", str(log), lines) from error
    finally:
        os.close(output)


def _environment() -> dict[str, str]:
    """Return an environment in which the supervisor finds this very package."""
    environment = dict(os.environ)
    root = str(Path(__file__).parents[3])
    if root not in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        paths = [path for path in (environment.get("PYTHONPATH"), root) if path]
        environment["PYTHONPATH"] = os.pathsep.join(paths)
    return environment


async def _greet(state: State) -> str:
    try:
        async with asyncio.timeout(_HANDSHAKE_SECONDS_MAX):
            return await handshake(state)
    except TimeoutError:
        raise NotReady(f"port {state.port} does not answer") from None


def _url(state: State) -> str:
    return f"nats://127.0.0.1:{state.port}"


def _living(pid: int | None) -> int | None:
    if not pid:
        return None
    try:
        os.kill(pid, 0)
    except OSError:
        return None
    return pid
