"""Clients from npm in processes of node: installed once, and told what to do line by line."""

import asyncio
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from support.processes import TESTS

NPM = TESTS / "npm"
LLM = TESTS / "llm"

PAGES = tuple(TESTS.parent / "examples" / name / "page" for name in ("chat", "coding_agent"))
"""Sources of pages that the examples ship built."""

FOLDERS = (*(NPM / f"v{major}" for major in (5, 6, 7)), LLM, *PAGES)
"""Where there is a `package.json`."""

_INSTALL_SECONDS = 300
_ANSWER_SECONDS = 60.0


def missing(*programs: str) -> list[str]:
    """Return which of these programs are not there."""
    return [program for program in programs if shutil.which(program) is None]


def installed(folder: Path) -> Path:
    """Return a folder with its npm packages in it: installed with the first use.

    Raises:
        RuntimeError: what is missing.
    """
    if absent := missing("node", "npm"):
        raise RuntimeError(f"missing: {', '.join(absent)}; `make test` installs them")
    wanted = hashlib.sha256((folder / "package.json").read_bytes()).hexdigest()
    with (folder / "package.json").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of several test processes one installs
        mark = folder / "node_modules" / ".offbook"
        if not mark.exists() or mark.read_text(encoding="utf-8") != wanted:
            _install(folder)
            mark.write_text(wanted, encoding="utf-8")
    return folder


def built(page: Path, packages: Path, folder: Path) -> Path:
    """Return a folder with a page of the examples, built with the packages of another one."""
    source, out = folder / "page", folder / "dist"
    shutil.copytree(page, source, ignore=shutil.ignore_patterns("node_modules"))
    (source / "node_modules").symlink_to(installed(packages) / "node_modules")
    vite = installed(page) / "node_modules" / "vite" / "bin" / "vite.js"
    command = ["node", str(vite), "build", str(source), "--config", str(page / "vite.config.js"),
               "--outDir", str(out), "--emptyOutDir"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode:
        raise RuntimeError(f"{page} does not build with {packages.name}:\n{done.stderr[-2000:]}")
    return out


def _install(folder: Path) -> None:
    command = ["npm", "install", "--no-package-lock", "--legacy-peer-deps", "--no-audit",
               "--no-fund", "--ignore-scripts", "--loglevel=error"]  # fmt: skip
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=_INSTALL_SECONDS
    )
    if done.returncode:
        raise RuntimeError(f"the packages of {folder.name} are missing:\n{done.stderr[-2000:]}")


class Node:
    """A script of `tests/npm` that takes orders: `await node(do="send", …)`."""

    def __init__(self, name: str) -> None:
        self._folder = installed(NPM / name)
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            "node", "run.mjs", cwd=self._folder, env=os.environ | {"NO_COLOR": "1"},
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 24,
        )  # fmt: skip
        return self

    async def __aexit__(self, *_error: object) -> None:
        if self._process is not None:
            if self._process.returncode is None:
                self._process.kill()
            await self._process.wait()

    async def __call__(self, **order: Any) -> Any:  # noqa: ANN401 - JSON
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise RuntimeError("it was not started")
        process.stdin.write(json.dumps(order).encode() + b"\n")
        async with asyncio.timeout(_ANSWER_SECONDS):
            line = await process.stdout.readline()
        answer: Any = json.loads(line)
        if "broken" in answer:
            raise AssertionError(answer["broken"])
        return answer


def texts(message: dict[str, Any]) -> list[str]:
    """Return the texts of a message in order."""
    parts: Sequence[dict[str, Any]] = message["parts"]
    return [part["text"] for part in parts if part["type"] == "text"]
