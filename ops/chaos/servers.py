"""A real nats-server to be harmed: started, killed, stopped, started again on the same files."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.error import HTTPError
from urllib.request import urlopen

_READY_SECONDS = 20.0
_STOP_SECONDS = 10.0
_MONITOR_SECONDS = 10.0


def binary() -> Path:
    """Return the nats-server that lies beside this Python."""
    return Path(sys.executable).parent / "nats-server"


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def monitor(port: int, path: str) -> dict[str, Any]:
    """Return what the monitor of a server on this machine says; nothing where it is away."""
    try:
        with urlopen(f"http://127.0.0.1:{port}/{path}", timeout=_MONITOR_SECONDS) as answer:
            found: dict[str, Any] = json.load(answer)
            return found
    except HTTPError as error:
        return {"status": f"error {error.code}"}
    except (OSError, ValueError):
        return {}


def stream_details(said: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the parts of a monitor's answer that are about streams."""
    accounts = said.get("account_details", [])
    return [stream for account in accounts for stream in account.get("stream_detail", [])]


class ServerProcess:
    """One server with a folder for its files, a port, and a configuration that is there.

    environment: what the configuration refers to, besides that of this process.
    """

    def __init__(
        self, folder: Path, port: int, config: Path, environment: dict[str, str] | None = None
    ) -> None:
        self.folder = folder
        self._port = port
        self._config = config
        self._environment = environment or {}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._port

    @property
    def url(self) -> str:
        """Where clients connect to."""
        return f"nats://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        """Its process, or zero."""
        return 0 if self._process is None else self._process.pid

    def start(self) -> Self:
        """Start it and return when it answers."""
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - ours
                [binary(), "-c", self._config], stdout=log, stderr=log,
                env=os.environ | self._environment,
            )  # fmt: skip
        self._await_ready()
        return self

    def _await_ready(self) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                break
            try:
                with socket.create_connection(("127.0.0.1", self._port), 1) as found:
                    if found.recv(4) == b"INFO":
                        return
            except OSError:
                time.sleep(0.02)
        log = (self.folder / "server.log").read_text(encoding="utf-8", errors="replace")
        raise RuntimeError(f"nats-server did not start:\n{log[-2000:]}")

    def kill(self) -> None:
        """End it without a chance to write anything more."""
        self.end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in order."""
        self.end(signal.SIGTERM)

    def end(self, number: signal.Signals, seconds: float = _STOP_SECONDS) -> None:
        """Send it a signal that ends it; it is killed where it takes longer."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def restart(self) -> None:
        """Kill it and start it again on the same files and port."""
        self.kill()
        self.start()

    def pause(self) -> None:
        """Let it stand still with its connections open; returns once all its threads do."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitpid(self.pid, os.WUNTRACED)

    def go_on(self) -> None:
        """End a pause."""
        os.kill(self.pid, signal.SIGCONT)


class NatsServer(ServerProcess):
    """One server with a folder and a port of its own.

    `config` is text for its configuration file. With `jetstream=False` that is all it has. Its
    folder is made below `base`, and removed with it; by default among temporary files.
    """

    def __init__(
        self,
        *,
        config: str = "",
        jetstream: bool = True,
        port: int | None = None,
        base: Path | None = None,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="offbook-nats-", dir=base)
        folder = Path(self._folder.name)
        super().__init__(folder, port or free_port(), folder / "server.conf")
        self._write(config, jetstream=jetstream)

    def _write(self, config: str, *, jetstream: bool) -> None:
        store = json.dumps(str(self.folder / "store"))
        lines = [f"listen: 127.0.0.1:{self._port}"]
        if jetstream and "jetstream" not in config.partition("accounts")[0]:
            lines.append(f"jetstream {{ store_dir: {store} }}")
        self._config.write_text("\n".join([*lines, config]), encoding="utf-8")

    def close(self) -> None:
        """Kill it and remove its folder."""
        self.kill()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
