"""A secret text in every payload is found nowhere outside: not on the server, not in what is told.

Without a cipher the server has it, and logs, spans, metrics and lists still have not.
"""

import asyncio
import base64
import logging
import os
import secrets
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Generator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from offbook.actors.ports import Backend, StepTask
from offbook.adapters.memory.faults import SeamHook
from offbook.testing import Environment
from support import canary
from support.commands import COMMAND, environment
from support.servers import NatsServer
from support.worlds import sealing

TESTS = Path(__file__).parents[2]
SPACE = "canary"


class Collector(ThreadingHTTPServer):
    """An OTLP receiver that keeps the bytes that it was sent, by path."""

    def __init__(self) -> None:
        self.taken: dict[str, bytes] = {}
        super().__init__(("127.0.0.1", 0), _Taking)


class _Taking(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["content-length"]))
        assert isinstance(self.server, Collector)
        taken = self.server.taken
        taken[self.path] = taken.get(self.path, b"") + data
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as above
        del format, args


@contextmanager
def collector() -> Generator[Collector]:
    found = Collector()
    thread = threading.Thread(target=found.serve_forever)
    thread.start()
    try:
        yield found
    finally:
        found.shutdown()
        thread.join()
        found.server_close()


def forms(canary: str) -> list[bytes]:
    """Return what the text looks like as it is, in hex, and in base64 at each of three places."""
    plain = canary.encode()
    inner = [base64.b64encode(b"\0" * at + plain)[4:-4] for at in range(3)]
    return [plain, plain.hex().encode(), canary.encode("utf-16-le"), *inner]


def found_in(places: dict[str, bytes], canary: str) -> list[str]:
    return [name for name, data in places.items() if any(form in data for form in forms(canary))]


def server_files(server: NatsServer) -> dict[str, bytes]:
    files = [path for path in server.folder.rglob("*") if path.is_file()]
    return {f"server {path.relative_to(server.folder)}": path.read_bytes() for path in files}


FULL = os.environ.get("OFFBOOK_CANARY") == "full"

READERS = {"show", "events", "stream"}
LISTS = [
    ["runs"],
    ["runs", "--json"],
    ["show", "live"],
    ["events", "live"],
    ["stream", "live", "said"],
    ["doctor", "--stale", "0s"],
    ["health", "--json"],
    ["namespace", "status"],
]


def commands(url: str, env: dict[str, str], which: list[list[str]]) -> dict[str, bytes]:
    given = ["--url", url, "--namespace", SPACE]
    found: dict[str, bytes] = {}
    for words in which:
        done = subprocess.run(
            [*COMMAND, *words, *given], env=env, capture_output=True, check=False, timeout=50
        )
        found[f"offbook {' '.join(words)}"] = done.stdout + done.stderr
    return found


def played(url: str, folder: Path, env: dict[str, str]) -> dict[str, bytes]:
    """Let the program run; return what it wrote and what came over the wire."""
    done = subprocess.run(
        [sys.executable, "-m", "support.canary", url, SPACE, str(folder)],
        env=env,
        capture_output=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr.decode()[-3_000:]
    written = {"standard output": done.stdout, "standard error": done.stderr}
    return written | {"wire": (folder / "wire").read_bytes()}


def telling(canary: str, collected: Collector, *, sealed: bool) -> dict[str, str]:
    env = environment() | {
        "CANARY": canary,
        "ODD": "1",
        "PYTHONPATH": str(TESTS),
        "LOG_LEVEL": "debug",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collected.server_port}",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }
    key = base64.b64encode(os.urandom(32)).decode()
    keys = {"OFFBOOK_KEYS": f"k1:{key}", "OFFBOOK_REQUIRE_SEALED": "1"} if sealed else {}
    return env | keys


@pytest.mark.skipif(not FULL, reason="make canary: a minute")
@pytest.mark.parametrize("sealed", [True, False], ids=["sealed", "clear"])
@pytest.mark.timeout(300)
async def test_a_secret_is_found_nowhere(tmp_path: Path, *, sealed: bool) -> None:
    text = f"canary-{secrets.token_hex(12)}"
    with NatsServer() as server, collector() as collected:
        env = telling(text, collected, sealed=sealed)
        places = await asyncio.to_thread(played, server.url, tmp_path, env)
        keyless = {name: value for name, value in env.items() if not name.startswith("OFFBOOK_K")}
        keyless.pop("OFFBOOK_REQUIRE_SEALED", None)
        which = LISTS if sealed else [words for words in LISTS if words[0] not in READERS]
        listed = await asyncio.to_thread(commands, server.url, keyless, which)
        server.stop()
        stored = server_files(server) | {"wire": places.pop("wire")}
        told = dict(collected.taken)
    assert {"/v1/traces", "/v1/metrics"} <= set(told)
    assert b"live" in listed["offbook runs"]
    assert found_in(places | listed | told, text) == []
    if sealed:
        assert found_in(stored, text) == []
        key = env["OFFBOOK_KEYS"].partition(":")[2]
        everywhere = places | listed | told | stored
        assert found_in(everywhere, key) == []
        assert found_in(everywhere, base64.b64decode(key).hex()) == []
    else:
        kinds = {"log", "out", "topics", "blobs", "hooks"}
        held = {kind for kind in kinds for name in found_in(stored, text) if f"_{kind}" in name}
        assert held == kinds, "the program does plant it everywhere"
        assert "wire" in found_in(stored, text)


# The same in memory, with all that goes to the server


class Tap:
    """A port that notes what it is given, by its name and method."""

    def __init__(self, name: str, inner: object, seen: dict[str, bytes]) -> None:
        self._name = name
        self._inner = inner
        self._seen = seen

    def __getattr__(self, method: str) -> Any:  # noqa: ANN401 - whatever a port has
        found = getattr(self._inner, method)
        point = f"{self._name}.{method}"

        def call(*args: object, **kwargs: object) -> object:
            noted = b" ".join(_texts([*args, *kwargs.values()]))
            self._seen[point] = self._seen.get(point, b"") + noted
            return found(*args, **kwargs)

        return call


def _texts(values: Iterable[object]) -> Iterator[bytes]:
    for value in values:
        if isinstance(value, bytes):
            yield value
        elif isinstance(value, StepTask):
            yield from (value.data, repr(value.headers).encode())
        else:
            yield repr(value).encode()


class Tapped(Environment):
    """A world in memory, with a tap at each of its doors."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - of Environment
        self.seen: dict[str, bytes] = {}
        super().__init__(**options)

    @asynccontextmanager
    async def _connection(self, seam: SeamHook | None) -> AsyncGenerator[Backend]:
        async with super()._connection(seam) as backend:
            for name in PORTS.split():
                setattr(backend, name, Tap(name, getattr(backend, name), self.seen))
            yield backend


PORTS = (
    "log mail timers tasks leases blobs streams groups signals runs hooks deployments"
)  # fmt: skip
PLANTED = {
    "log.create", "log.append", "mail.send", "tasks.publish", "blobs.put", "streams.append",
    "hooks.create", "signals.say",
}  # fmt: skip


@pytest.mark.virtual
@pytest.mark.parametrize("sealed", [True, False], ids=["sealed", "clear"])
async def test_no_door_lets_a_secret_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, *, sealed: bool
) -> None:
    text = f"canary-{secrets.token_hex(12)}"
    monkeypatch.setattr(canary, "CANARY", text)
    caplog.set_level(logging.DEBUG)
    async with Tapped(workers=0, cipher=sealing() if sealed else None) as env:
        await env.add_worker(queues=["default"])
        await env.add_worker(workflows=[], queues=["far"])
        await canary.play(env.client)
        seen = dict(env.seen)
    assert set(seen) >= PLANTED | {"runs.create", "leases.hold"}
    assert found_in({"logs": caplog.text.encode()}, text) == []
    assert "run ended" in caplog.text
    assert set(found_in(seen, text)) == (set() if sealed else PLANTED | {"hooks.swap"})
