"""Sandboxes on this machine: a folder for each, and commands under limits.

Where this process is root, each sandbox has a user of its own. Elsewhere its commands run as the
very user that runs the worker: they can read and change what that user can. Nothing here keeps a
command from the network, nor from reading what every user of the machine may read. For prompts of
people that you do not trust, use a hosted sandbox or a virtual machine.
"""

import asyncio
import codecs
import errno
import fcntl
import json
import os
import re
import shutil
import stat
import sys
from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from sandbox import Ended, Output, SandboxError

KEEPER = Path(__file__).with_name("keeper.py")
FIRST_USER, LAST_USER = 61_184, 65_519
"""Ids that systems keep free for users who come and go."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,128}")
_SHOWN_FILES = 200
_SHOWN_DEPTH = 20
_COMMAND_LENGTH = 32_000
_LINKS = {errno.ELOOP, errno.ENOTDIR}
_STEP = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Limits:
    """What a command may use.

    seconds: of the clock, and of each process's time. memory: bytes, of each process and of all.
    processes: how many at once, threads too. file: bytes of one file. output: bytes that are
    shown. open: open files of a process.
    """

    seconds: float = 30.0
    memory: int = 512 * 1024 * 1024
    processes: int = 64
    file: int = 8 * 1024 * 1024
    output: int = 64 * 1024
    open: int = 256


@dataclass(frozen=True)
class LocalSandboxes:
    """Sandboxes below a folder, which is made where it is missing."""

    folder: Path
    limits: Limits = field(default_factory=Limits)

    # Sandboxes

    async def create(self, name: str) -> None:
        """Make a sandbox, unless it is there."""
        await asyncio.to_thread(self._create, _checked(name))

    def _create(self, name: str) -> None:
        place = self.folder / name
        self.folder.mkdir(parents=True, exist_ok=True)
        _check_ours(self.folder)
        self.folder.chmod(0o711)
        with _locked(self.folder):
            if place.exists():
                place.chmod(0o700)  # a command may have closed it, to itself too
                return
            draft = self.folder / f".{name}"
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir(mode=0o700)
            if _many_users():
                user = _free_user(self.folder)
                os.chown(draft, user, user)
            draft.rename(place)

    async def remove(self, name: str) -> None:
        """Remove a sandbox with all that is in it, if it is there."""
        # Not by shutil: a command can nest folders more deeply than Python follows them.
        place = str(self.folder / _checked(name))
        process = await asyncio.create_subprocess_exec(
            "rm", "-rf", "--", place, stderr=asyncio.subprocess.DEVNULL
        )
        await process.wait()

    # Files

    async def write(self, name: str, path: str, content: str) -> int:
        """Write a file, with the folders above it; return its size in bytes."""
        data = content.encode("utf-8", "replace")
        if len(data) > self.limits.file:
            raise SandboxError(f"{path} is too large: {len(data)} bytes of {self.limits.file}")
        await asyncio.to_thread(self._write, name, path, data)
        return len(data)

    def _write(self, name: str, path: str, data: bytes) -> None:
        with self._opened(name, path, _WRITE) as file:
            os.ftruncate(file, 0)
            with os.fdopen(os.dup(file), "wb") as stream:
                stream.write(data)

    async def read(self, name: str, path: str) -> bytes:
        """Return what is in a file."""
        return await asyncio.to_thread(self._read, name, path)

    def _read(self, name: str, path: str) -> bytes:
        with self._opened(name, path, _READ) as file, os.fdopen(os.dup(file), "rb") as stream:
            return stream.read(self.limits.file)

    async def files(self, name: str) -> list[str]:
        """Return the paths of the files, sorted; of very many, and very deep ones, not all."""
        return await asyncio.to_thread(self._files, name)

    def _files(self, name: str) -> list[str]:
        found: list[str] = []
        with self._root(name) as root:
            for folder, folders, files, _ in os.fwalk(".", dir_fd=root):
                inner = [] if folder.count("/") > _SHOWN_DEPTH else folders
                folders[:] = sorted(one for one in inner if not one.startswith((".", "__")))
                found += [_text(PurePosixPath(folder, file)) for file in files]
                if len(found) > _SHOWN_FILES:
                    break
        return sorted(found[:_SHOWN_FILES])

    # Paths: each step is opened from the one before, and no link is followed, so that a command
    # which changes the folders at the same time changes nothing outside.

    @contextmanager
    def _root(self, name: str) -> Generator[int]:
        try:
            root = os.open(self.folder / _checked(name), _STEP)
        except PermissionError:
            raise SandboxError("the sandbox is closed: create it again") from None
        except OSError:
            raise SandboxError("there is no sandbox yet: create it first") from None
        try:
            yield root
        finally:
            os.close(root)

    @contextmanager
    def _opened(self, name: str, path: str, flags: int) -> Generator[int]:
        """Open a file of a sandbox; to write it, make it and its folders."""
        *folders, last = _parts(path)
        make = bool(flags & os.O_CREAT)
        with self._root(name) as root:
            owner = os.fstat(root).st_uid
            try:
                file = _open_below(root, folders, last, flags, owner if make else None)
            except OSError as error:
                raise SandboxError(f"{path}: {_why(error)}") from None
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise SandboxError(f"{path}: it is no plain file")
            if make and _many_users():
                os.fchown(file, owner, owner)
            yield file
        finally:
            os.close(file)

    # Commands

    async def run(self, name: str, command: str) -> AsyncGenerator[Output | Ended]:
        """Run a command of the shell; yield what it prints as it comes, and last `Ended`."""
        process = await self._start(await asyncio.to_thread(self._order, name, command))
        assert process.stdin
        assert process.stdout
        assert process.stderr
        try:
            shown, cut = 0, 0
            decoder = codecs.getincrementaldecoder("utf-8")("replace")
            while data := await process.stdout.read(1 << 16):
                kept = data[: self.limits.output - shown]
                shown, cut = shown + len(kept), cut + len(data) - len(kept)
                if text := decoder.decode(kept):
                    yield Output(text)
            yield _ended(await process.stderr.read(), cut)
        finally:
            process.stdin.close()
            await process.wait()

    def _order(self, name: str, command: str) -> dict[str, Any]:
        if len(command) > _COMMAND_LENGTH:
            raise SandboxError("the command is too long: write it into a file, and run that")
        folder = self.folder.absolute() / _checked(name)
        with self._root(name) as root:
            owner = os.fstat(root).st_uid
            os.fchmod(root, 0o700)  # a command before may have closed it, to itself too
        if _many_users() and (closed := _closed_to_others(folder.parent)):
            raise SandboxError(f"the sandbox cannot be entered: {closed} is closed to other users")
        limits = self.limits
        return {
            "command": ["/bin/sh", "-c", command],
            "folder": str(folder),
            "environment": _environment(folder),
            "user": owner if _many_users() else None,
            "seconds": limits.seconds,
            "memory": limits.memory,
            "processes": limits.processes,
            "file": limits.file,
            "open": limits.open,
        }

    async def _start(self, order: dict[str, Any]) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", str(KEEPER), json.dumps(order),
            stdin=pipe, stdout=pipe, stderr=pipe, env={}, start_new_session=True,
        )  # fmt: skip


def _ended(said: bytes, cut: int) -> Ended:
    try:
        verdict: dict[str, Any] = json.loads(said)
    except ValueError:
        raise SandboxError(f"the command was lost: {said.decode(errors='replace')}") from None
    return Ended(verdict["code"], verdict["reason"], cut)


def _environment(folder: Path) -> dict[str, str]:
    """Return all that a command finds in its environment: nothing of the worker's."""
    own = Path(sys.base_prefix) / "bin"
    places = ["/usr/local/bin", "/usr/bin", "/bin"]
    if not _closed_to_others(own):
        places.insert(0, str(own))
    home = str(folder)
    return {"PATH": os.pathsep.join(places), "HOME": home, "TMPDIR": home, "LANG": "C.UTF-8",
            "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}  # fmt: skip


# Names, paths, users


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise SandboxError(f"{name!r} cannot be the name of a sandbox")
    return name


def _parts(path: str) -> list[str]:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\0" in path or path.endswith("/"):
        raise SandboxError(
            f"{path!r}: paths are those of files, begin in the sandbox and stay in it"
        )
    return list(parts)


def _open_below(root: int, folders: list[str], last: str, flags: int, maker: int | None) -> int:
    at = os.dup(root)
    for folder in folders:
        try:
            if maker is not None:
                _make_folder(at, folder, maker)
            inner = os.open(folder, _STEP, dir_fd=at)
        finally:
            os.close(at)
        at = inner
    try:
        return os.open(last, flags, 0o600, dir_fd=at)
    finally:
        os.close(at)


def _make_folder(at: int, folder: str, owner: int) -> None:
    try:
        os.mkdir(folder, 0o700, dir_fd=at)
    except FileExistsError:
        return
    if _many_users():
        os.chown(folder, owner, owner, dir_fd=at, follow_symlinks=False)


def _text(path: PurePosixPath) -> str:
    return os.fsencode(path).decode(errors="replace")


def _why(error: OSError) -> str:
    told = os.strerror(error.errno or 0).lower()
    return f"{told}; links are not followed" if error.errno in _LINKS else told


def _many_users() -> bool:
    """Return whether each sandbox can have a user of its own."""
    return os.geteuid() == 0


def _free_user(folder: Path) -> int:
    taken = {one.lstat().st_uid for one in folder.iterdir()}
    free = (user for user in range(FIRST_USER, LAST_USER + 1) if user not in taken)
    found = next(free, None)
    if found is None:
        raise SandboxError("there are too many sandboxes: remove some")
    return found


def _check_ours(folder: Path) -> None:
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise SandboxError(f"{folder} belongs to somebody else")


def _closed_to_others(folder: Path) -> Path | None:
    """Return the first folder on the way to this one, and this one, that others cannot enter."""
    return next((one for one in _way(folder) if not _is_open(one)), None)


def _way(folder: Path) -> Iterator[Path]:
    whole = folder.resolve()
    yield from (*reversed(whole.parents), whole)


def _is_open(folder: Path) -> bool:
    try:
        return bool(folder.stat().st_mode & stat.S_IXOTH)
    except OSError:
        return False


@contextmanager
def _locked(folder: Path) -> Generator[None]:
    """Let one process at a time give users to sandboxes."""
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
