"""Keeps a workflow body away from the world: what it must not do is refused where it does it.

An audit hook sees most side effects; a few calls that some versions do not audit are dispatched.
Reads that no hook sees (`os.environ`, `Path.exists`) are for the static checker.
"""

import _thread
import asyncio
import asyncio.events
import builtins
import functools
import logging
import os
import sys
import threading
import time
from _thread import get_ident
from collections.abc import Callable
from importlib import import_module
from types import FrameType, ModuleType
from typing import Any

from . import clocks
from .active import Target, Token, body_frames, current, enter, leave, line_of, targets
from .errors import SideEffectInWorkflow

__all__ = ["Target", "Token", "enter", "install", "leave", "prepare_module"]

_installed = False
_lock = threading.Lock()


def install() -> None:
    """Put the guard, the logical clocks and the mutes in place, once for the whole process."""
    global _installed  # noqa: PLW0603  (an audit hook cannot be removed, so this is process state)
    with _lock:
        clocks.install()
        _mute_structlog()
        if _installed:
            return
        sys.addaudithook(_audit)
        _dispatch_unaudited()
        _mute_print()
        _mute_logging()
        _installed = True


def prepare_module(module: ModuleType) -> None:
    """Let a workflow's module use the logical clock and the seeded generator it imported by name.

    Its globals change in place, and behave as before outside of a body. Call it when the module
    is loaded to its end; a second call is free of harm.
    """
    install()
    clocks.prepare_module(module)


_FILES = frozenset(
    # One name a line would take three pages.
    "open os.chdir os.chflags os.chmod os.chown os.getxattr os.lchmod os.lchown os.link os.listdir "  # noqa: SIM905
    "os.listxattr os.lockf os.mkdir os.remove os.removexattr os.rename os.rmdir os.scandir "
    "os.setxattr os.symlink os.truncate os.utime os.walk os.fwalk glob.glob pathlib.Path.glob "
    "pathlib.Path.rglob tempfile.mkstemp tempfile.mkdtemp shutil.copyfile shutil.copymode "
    "shutil.copystat shutil.copytree shutil.move shutil.rmtree shutil.chown shutil.make_archive "
    "shutil.unpack_archive fcntl.fcntl fcntl.flock fcntl.ioctl fcntl.lockf mmap.__new__ "
    "sqlite3.connect dbm.open shelve.open syslog.openlog syslog.syslog".split()
)
_OTHERS = frozenset(
    "os.system os.exec os.fork os.forkpty os.posix_spawn os.spawn os.startfile os.kill os.killpg "  # noqa: SIM905
    "os.putenv os.unsetenv subprocess.Popen pty.spawn signal.pthread_kill builtins.input "
    "webbrowser.open resource.setrlimit resource.prlimit time.sleep "
    "_thread.start_new_thread _thread.start_joinable_thread _winapi.CreateProcess "
    "socket.__new__ socket.bind socket.connect socket.getaddrinfo socket.gethostbyaddr "
    "socket.gethostbyname socket.gethostname socket.getnameinfo socket.getservbyname "
    "socket.getservbyport socket.sendmsg socket.sendto socket.sethostname urllib.Request "
    "http.client.connect http.client.send ftplib.connect imaplib.open poplib.connect "
    "smtplib.connect telnetlib.Telnet.open nntplib.connect".split()
)
_REFUSED = _FILES | _OTHERS
_SHOWN = {
    "_thread.start_new_thread": "threading.Thread.start",
    "_thread.start_joinable_thread": "threading.Thread.start",
    "builtins.input": "input",
    "socket.__new__": "socket.socket",
    "mmap.__new__": "mmap.mmap",
}
# Where the library reads code and data of its own, and where log handlers and debuggers write.
_ALLOWED = frozenset(
    {"importlib", "_frozen_importlib", "_frozen_importlib_external", "zipimport", "linecache"}
    | {"tokenize", "zoneinfo", "logging", "pdb", "_pyrepl", "pydevd", "debugpy"}
)


def _audit(event: str, args: tuple[object, ...]) -> None:
    if event == "import" and str(args[0]).startswith("structlog."):
        _mute_structlog()
    if not targets or event not in _REFUSED:
        return
    target = targets.get(get_ident())
    if target is not None and not _harmless(event, args):
        _refuse(target, _call_text(event, args))


def _harmless(event: str, args: tuple[object, ...]) -> bool:
    if event == "open" and _is_zone_data(args[0]):
        return True
    return any(
        str(frame.f_globals.get("__name__", "")).split(".", 1)[0] in _ALLOWED
        for frame in body_frames(_caller(2))
    )


def _is_below(module: str) -> bool:
    return any(f.f_globals.get("__name__") == module for f in body_frames(_caller(3)))


def _caller(depth: int) -> FrameType:
    # The only way to see who called, from inside an audit hook.
    return sys._getframe(depth + 1)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


def _is_zone_data(path: object) -> bool:
    # ZoneInfo opens its files from C: no frame says who did it.
    zones = sys.modules.get("zoneinfo")
    return (
        zones is not None
        and isinstance(path, str)
        and path.startswith(tuple(f"{folder}/" for folder in getattr(zones, "TZPATH", ())))
    )


def _call_text(event: str, args: tuple[object, ...]) -> str:
    name = _SHOWN.get(event, event)
    first = args[0] if args and event in _FILES else None
    if isinstance(first, int) and _is_below("subprocess"):
        return "subprocess.Popen()"  # it opens its pipes before it tells of itself
    shown = repr(first)[:80] if isinstance(first, str | bytes) else ""
    return f"{name}({shown})"


def _refuse(target: Target, call: str) -> None:
    error = SideEffectInWorkflow(call, line_of(_caller(2)))
    target.refused(error)
    raise error


def _dispatch_unaudited() -> None:
    # A loop that is refused half-way, by its sockets, complains when it is collected.
    for module in (asyncio, asyncio.events):
        loop = _refusing("asyncio.new_event_loop()", asyncio.events.new_event_loop)
        clocks.bind(module, "new_event_loop", loop)
    if os.name == "posix":
        processes = import_module("_posixsubprocess")
        start = _refusing("multiprocessing.Process.start()", processes.fork_exec)
        clocks.bind(processes, "fork_exec", start)
    if sys.version_info < (3, 13):
        clocks.bind(time, "sleep", _refusing("time.sleep()", time.sleep))
    if sys.version_info < (3, 12):
        start = _refusing("threading.Thread.start()", _thread.start_new_thread)
        clocks.bind(_thread, "start_new_thread", start)
        _refuse_thread_start()


def _refusing(call: str, real: Callable[..., Any]) -> Callable[..., Any]:
    def dispatch(_: object, *args: object, **options: object) -> object:
        target = current()
        if target is not None:
            _refuse(target, call)
        return real(*args, **options)

    return dispatch


def _refuse_thread_start() -> None:
    real = threading.Thread.start

    @functools.wraps(real)
    def start(self: threading.Thread) -> None:
        target = current()
        if target is not None:
            _refuse(target, "threading.Thread.start()")
        real(self)

    threading.Thread.start = start  # type: ignore[method-assign]


def _muted() -> bool:
    target = current()
    return target is not None and target.replaying


def _mute_print() -> None:
    real: Callable[..., None] = builtins.print

    def dispatch(_: object, *args: object, **options: object) -> None:
        if not (targets and _muted()):
            real(*args, **options)

    clocks.bind(builtins, "print", dispatch)


def _mute_logging() -> None:
    # Late enough that `isEnabledFor` answers a body the same on replay, early enough for any
    # handler, filter and propagation.
    real = logging.Logger.handle

    @functools.wraps(real)
    def handle(self: logging.Logger, record: logging.LogRecord) -> None:
        if not (targets and _muted()):
            real(self, record)

    logging.Logger.handle = handle  # type: ignore[method-assign]


def _mute_structlog() -> None:
    """Mute structlog as soon as the process has imported it: not all of its loggers print."""
    logger = getattr(sys.modules.get("structlog._base"), "BoundLoggerBase", None)
    if logger is None or hasattr(logger, "_offbook_muted"):
        return
    real = logger._proxy_to_logger  # noqa: SLF001  (where all of its levels meet)

    @functools.wraps(real)
    def proxy(self: object, *args: object, **options: object) -> object:
        return None if targets and _muted() else real(self, *args, **options)

    logger._proxy_to_logger = proxy  # noqa: SLF001
    logger._offbook_muted = True  # noqa: SLF001
