"""What a workflow body may not do is refused; what only looks like it is not."""

# Prints, and calls that are looked up late, are what is tested.
# ruff: noqa: ANN401, PLW0108, T201

import asyncio
import concurrent.futures
import gc
import io
import linecache
import logging
import mmap
import multiprocessing
import os
import random
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.request
import zoneinfo
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydantic
import pytest
import structlog

from offbook.actors import guard
from offbook.actors.errors import SideEffectInWorkflow


class Body:
    def __init__(self, *, replaying: bool = False) -> None:
        self.replaying = replaying
        self.generator = random.Random(7)
        self.refusals: list[SideEffectInWorkflow] = []

    def now(self) -> int:
        return 1_500_000_000_123_456

    def random(self) -> random.Random:
        return self.generator

    def refused(self, error: SideEffectInWorkflow) -> None:
        self.refusals.append(error)

    def run(self, call: Callable[[], Any]) -> Any:
        token = guard.enter(self)
        try:
            return call()
        finally:
            guard.leave(token)


@pytest.fixture(autouse=True)
def installed() -> None:
    guard.install()


REFUSED: dict[str, tuple[str, Callable[[], Any]]] = {
    "open": ("open('/dev/null')", lambda: open("/dev/null")),  # noqa: PTH123, SIM115
    "os.open": ("open('/dev/null')", lambda: os.open("/dev/null", os.O_RDONLY)),
    "read_text": ("open(", lambda: Path("/dev/null").read_text(encoding="utf-8")),
    "listdir": ("os.listdir('/')", lambda: os.listdir("/")),  # noqa: PTH208
    "scandir": ("os.scandir('/')", lambda: os.scandir("/")),
    "glob": ("Path.glob", lambda: list(Path("/dev").glob("null"))),
    "mkdir": ("os.mkdir", lambda: Path("/dev/null/x").mkdir()),
    "remove": ("os.remove", lambda: Path("/dev/null/x").unlink()),
    "rename": ("os.rename", lambda: Path("/dev/null/x").rename("/dev/null/y")),
    "copy": ("shutil.copyfile", lambda: shutil.copyfile("/dev/null", "/dev/null/x")),
    "tempfile": ("tempfile.mkdtemp", lambda: tempfile.mkdtemp(dir="/dev/null")),
    "environment": ("os.putenv", lambda: os.environ.__setitem__("OFFBOOK_TEST", "1")),
    "socket": ("socket.socket", socket.socket),
    "resolver": ("socket.getaddrinfo", lambda: socket.getaddrinfo("127.0.0.1", 1)),
    "url": ("urllib.Request", lambda: urllib.request.urlopen("http://127.0.0.1:1/")),
    "popen": ("subprocess.Popen", lambda: subprocess.run(["true"], check=False)),
    "popen with pipes": ("subprocess.Popen", lambda: subprocess.check_output(["true"])),
    "system": ("os.system", lambda: os.system("true")),  # pyright: ignore[reportDeprecated]
    "sqlite": ("sqlite3.connect", lambda: sqlite3.connect(":memory:")),
    "mmap": ("mmap.mmap", lambda: mmap.mmap(-1, 16)),
    "sleep": ("time.sleep", lambda: time.sleep(0)),
    "thread": ("threading.Thread.start", lambda: threading.Thread(target=int).start()),
    "executor": (
        "threading.Thread.start",
        lambda: concurrent.futures.ThreadPoolExecutor().submit(int),
    ),
    "process": (
        "multiprocessing.Process.start",
        lambda: multiprocessing.get_context("spawn").Process(target=int).start(),
    ),
    "forked process": (
        "os.fork",
        lambda: multiprocessing.get_context("fork").Process(target=int).start(),
    ),
    "loop": ("asyncio.new_event_loop", lambda: asyncio.new_event_loop()),
    "asyncio.run": ("asyncio.new_event_loop", lambda: asyncio.Runner().get_loop()),
    "input": ("input()", input),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_side_effect_is_refused_and_named_with_its_line(name: str) -> None:
    shown, call = REFUSED[name]
    body = Body()
    with pytest.raises(SideEffectInWorkflow) as raised:
        body.run(call)
    assert shown in raised.value.call
    assert raised.value.line.rpartition(":")[0] == __file__
    assert body.refusals[0] is raised.value


def test_a_body_that_catches_the_refusal_cannot_hide_it() -> None:
    def careless() -> str:
        try:
            os.listdir("/")  # noqa: PTH208
        except Exception:  # noqa: BLE001
            return "went on"
        return "was let through"

    body = Body()
    assert body.run(careless) == "went on"
    assert [error.call for error in body.refusals] == ["os.listdir('/')"]


def _import_fresh() -> Any:
    for name in ("this", "colorsys"):
        sys.modules.pop(name, None)
    import colorsys  # noqa: PLC0415

    return colorsys


def _format_an_error() -> str:
    linecache.clearcache()
    try:
        int("x")
    except ValueError:
        return traceback.format_exc()
    return ""


def _build_validators() -> Any:
    model = pydantic.create_model("Late", name=(str, ...), size=(int, 0))
    return model.model_validate({"name": "x"})


def _log_to_a_late_file(tmp_path: Path) -> None:
    handler = logging.FileHandler(tmp_path / "late.log", delay=True, encoding="utf-8")
    logger = logging.Logger("late")  # noqa: LOG001
    logger.addHandler(handler)
    logger.warning("opened when it is first used")
    handler.close()


ALLOWED: dict[str, Callable[[], Any]] = {
    "imports": _import_fresh,
    "tracebacks": _format_an_error,
    "time zones": lambda: zoneinfo.ZoneInfo.no_cache("Europe/Berlin"),
    "pydantic": _build_validators,
    "memory files": lambda: io.StringIO("x").read(),
    "print": lambda: print("hello"),
}


@pytest.mark.parametrize("name", ALLOWED)
def test_what_only_looks_like_a_side_effect_is_let_through(name: str) -> None:
    body = Body()
    assert body.run(ALLOWED[name]) is not body
    assert body.refusals == []


def test_a_log_file_that_opens_late_is_let_through(tmp_path: Path) -> None:
    body = Body()
    body.run(lambda: _log_to_a_late_file(tmp_path))
    assert body.refusals == []
    assert "opened when" in (tmp_path / "late.log").read_text(encoding="utf-8")


def test_outside_of_a_body_everything_works(tmp_path: Path) -> None:
    body = Body()
    body.run(lambda: None)
    (tmp_path / "x").write_text("x", encoding="utf-8")
    thread = threading.Thread(target=time.sleep, args=(0,))
    thread.start()
    thread.join()
    socket.socket().close()
    asyncio.new_event_loop().close()
    assert os.listdir(tmp_path) == ["x"]  # noqa: PTH208


def test_other_threads_are_not_guarded_while_a_body_runs(tmp_path: Path) -> None:
    inside, done = threading.Event(), threading.Event()
    seen: list[bytes | int] = []

    def elsewhere() -> None:
        inside.wait()
        seen.append((tmp_path / "x").write_bytes(b"x"))
        seen.append(int(time.time()))
        done.set()

    thread = threading.Thread(target=elsewhere)
    thread.start()

    def body() -> None:
        inside.set()
        done.wait(30)

    Body().run(body)
    thread.join()
    assert seen[0] == 1
    assert seen[1] != 1_500_000_000


def test_a_nested_turn_gives_the_outer_body_back() -> None:
    outer, inner = Body(), Body()
    with pytest.raises(SideEffectInWorkflow):
        outer.run(lambda: (inner.run(lambda: None), os.listdir("/")))  # noqa: PTH208
    assert (len(outer.refusals), len(inner.refusals)) == (1, 0)


def test_a_refused_loop_leaves_nothing_behind_to_complain() -> None:
    with pytest.raises(SideEffectInWorkflow):
        Body().run(lambda: asyncio.new_event_loop())
    gc.collect()


def test_print_is_muted_only_while_replaying(capsys: pytest.CaptureFixture[str]) -> None:
    Body(replaying=True).run(lambda: print("again"))
    Body().run(lambda: print("live"))
    print("outside")
    assert capsys.readouterr().out == "live\noutside\n"


def test_logging_is_muted_only_while_replaying(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("tests.guard")
    caplog.set_level(logging.INFO, "tests.guard")
    Body(replaying=True).run(lambda: logger.info("again"))
    Body().run(lambda: logger.info("live"))
    logger.info("outside")
    assert caplog.messages == ["live", "outside"]
    assert Body(replaying=True).run(lambda: logger.isEnabledFor(logging.INFO))


def test_structlog_is_muted_only_while_replaying() -> None:
    guard.install()
    out = io.StringIO()
    logger = structlog.wrap_logger(
        structlog.WriteLogger(out),
        processors=[structlog.processors.KeyValueRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
    )
    Body(replaying=True).run(lambda: logger.info("again"))
    Body().run(lambda: logger.info("live"))
    logger.info("outside")
    assert out.getvalue().splitlines() == ["event='live'", "event='outside'"]


def test_structlog_is_muted_though_the_body_imports_it_itself() -> None:
    code = """
import random
from types import SimpleNamespace
from offbook.actors import guard
guard.install()
now, refused, generator = (lambda: 0), print, random.Random(7)
for replaying in (True, False):
    target = SimpleNamespace(now=now, random=lambda: generator, refused=refused)
    target.replaying = replaying
    token = guard.enter(target)
    import structlog
    logger = structlog.wrap_logger(structlog.WriteLogger(), [lambda _, name, line: str(line)])
    logger.info("said", replaying=replaying)
    guard.leave(token)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "{'replaying': False, 'event': 'said'}\n"


def test_print_on_another_thread_is_not_muted(capsys: pytest.CaptureFixture[str]) -> None:
    inside, done = threading.Event(), threading.Event()

    def elsewhere() -> None:
        inside.wait()
        print("step")
        done.set()

    thread = threading.Thread(target=elsewhere)
    thread.start()

    def body() -> None:
        inside.set()
        done.wait(30)

    Body(replaying=True).run(body)
    thread.join()
    assert capsys.readouterr().out == "step\n"


def test_installing_twice_changes_nothing() -> None:
    before = (time.time, print, logging.Logger.handle, threading.Thread.start)
    guard.install()
    assert (time.time, print, logging.Logger.handle, threading.Thread.start) == before
