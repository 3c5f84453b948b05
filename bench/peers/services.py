"""The servers, each with data of its own that is gone afterwards, on loopback."""

import asyncio
import json
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from offbook.adapters.server import find_binary, layout

HERE = Path(__file__).parent
VENV = HERE.parents[1] / ".venv-peers"
_PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Service:
    """A server that runs: where the apps find it, and its process."""

    url: str
    process: psutil.Process
    folder: Path


def free_port() -> int:
    """Return a port that is free just now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


async def listening(port: int) -> None:
    """Wait until something listens there."""
    async with asyncio.timeout(_PATIENCE_SECONDS):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return


@asynccontextmanager
async def _running(
    command: Sequence[str | Path], folder: Path, environment: Mapping[str, str] | None = None
) -> AsyncGenerator[psutil.Process]:
    log = (folder / "log").open("wb")
    process = subprocess.Popen(  # noqa: ASYNC220 - it only begins here
        command, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True
    )
    try:
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.close()


@asynccontextmanager
async def _folder() -> AsyncGenerator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="offbook-peers-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def nats() -> AsyncGenerator[Service]:
    """A nats-server that calls fsync for each message."""
    async with _folder() as folder:
        port = free_port()
        config = folder / "nats.conf"
        config.write_text(
            f'listen: "127.0.0.1:{port}"\n'
            f"jetstream {{ store_dir: {json.dumps(str(folder))}\nsync_interval: always }}\n"
        )
        environment = {**layout.ENVIRONMENT, **os.environ}
        async with _running([find_binary(), "-c", config], folder, environment) as process:
            await listening(port)
            yield Service(f"nats://127.0.0.1:{port}", process, folder)


def restate_binary() -> Path:
    """Return the program that npm brought for this machine."""
    found = sorted(HERE.glob("npm/node_modules/@restatedev/restate-server-*/bin/restate-server"))
    if not found:
        raise FileNotFoundError("npm brought no restate-server for this machine")
    return found[0]


@asynccontextmanager
async def restate() -> AsyncGenerator[Service]:
    """A single restate-server with its own defaults, which call fsync."""
    async with _folder() as folder:
        ingress, admin, node = free_port(), free_port(), free_port()
        environment = os.environ | {
            "RESTATE_INGRESS__BIND_ADDRESS": f"127.0.0.1:{ingress}",
            "RESTATE_ADMIN__BIND_ADDRESS": f"127.0.0.1:{admin}",
            "RESTATE_BIND_ADDRESS": f"127.0.0.1:{node}",
            "RESTATE_ADVERTISED_ADDRESS": f"http://127.0.0.1:{node}/",
            "RESTATE_DISABLE_TELEMETRY": "true",
            "RESTATE_LISTEN_MODE": "tcp",
        }
        command = [restate_binary(), "--no-logo", "--base-dir", folder / "data"]
        async with _running(command, folder, environment) as process:
            await listening(ingress)
            await listening(admin)
            url = f"http://127.0.0.1:{ingress} http://127.0.0.1:{admin}"
            yield Service(url, process, folder)


def postgres_programs() -> Path:
    """Return the folder of the newest Postgres that Debian's package brought."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not found:
        raise FileNotFoundError("no Postgres: install Debian's package postgresql")
    return found[-1].parent


@asynccontextmanager
async def postgres() -> AsyncGenerator[Service]:
    """A Postgres with its own defaults: fsync and synchronous_commit are on."""
    async with _folder() as folder:
        port, data = free_port(), folder / "data"
        await asyncio.to_thread(_new_cluster, data)
        command = [*_as_postgres(), postgres_programs() / "postgres", "-D", data, "-p", str(port),
                   "-k", data, "-c", "listen_addresses=127.0.0.1", "-c", "fsync=on",
                   "-c", "synchronous_commit=on", "-c", "max_connections=200"]  # fmt: skip
        async with _running(command, folder) as process:
            await listening(port)
            url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
            await _until_accepting(url)
            yield Service(url, process, folder)


def _new_cluster(data: Path) -> None:
    data.parent.chmod(0o755)
    data.mkdir()
    if _as_postgres():
        shutil.chown(data, "postgres")
    command = [*_as_postgres(), postgres_programs() / "initdb", "-D", data, "-U", "postgres",
               "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8"]  # fmt: skip
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=data)


def _as_postgres() -> list[str]:
    if os.geteuid() != 0:
        return []
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]


async def _until_accepting(url: str) -> None:
    async with asyncio.timeout(_PATIENCE_SECONDS):
        while True:
            probe = [postgres_programs() / "psql", url, "-qAtc", "select 1"]
            done = await asyncio.to_thread(
                subprocess.run, probe, capture_output=True, check=False, text=True
            )
            if done.returncode == 0:
                return
            await asyncio.sleep(0.1)


@asynccontextmanager
async def redis() -> AsyncGenerator[Service]:
    """A Redis that appends each command to its file and calls fsync before it answers."""
    async with _folder() as folder:
        port = free_port()
        command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", folder,
                   "--appendonly", "yes", "--appendfsync", "always", "--save", ""]  # fmt: skip
        async with _running(command, folder) as process:
            await listening(port)
            yield Service(f"redis://127.0.0.1:{port}/0", process, folder)


@asynccontextmanager
async def temporal() -> AsyncGenerator[Service]:
    """Temporal's development server on a file of SQLite, with full synchronisation."""
    async with _folder() as folder:
        port = free_port()
        command = [VENV / "bin" / "temporal", "server", "start-dev", "--headless", "--ip",
                   "127.0.0.1", "--port", str(port), "--db-filename", folder / "temporal.db",
                   "--sqlite-pragma", "synchronous=2", "--sqlite-pragma", "journal_mode=wal",
                   "--log-level", "error"]  # fmt: skip
        async with _running(command, folder) as process:
            await listening(port)
            yield Service(f"127.0.0.1:{port}", process, folder)
