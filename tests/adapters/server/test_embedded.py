"""Real processes: several clients, their supervisor, its nats-server, and kills of each."""
# ruff: noqa: ASYNC110, ASYNC220, ASYNC240
# (The state of other processes has no event to await; small files and starts may block a test.)

import asyncio
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self, cast

import psutil
import pytest

from offbook.actors.errors import (
    ClientClosed,
    EmbeddedServerFailed,
    InvalidOption,
    ServerFolderUnusable,
    ServerMissing,
    ServerUnsupported,
)
from offbook.adapters.server import EmbeddedServer, ServerAddress, embedded, find_binary, layout
from offbook.adapters.server.handshake import NotReady, handshake

LIMIT_SECONDS = 40

HOLD = """
import asyncio, json, os, sys, time
from pathlib import Path
from offbook.adapters.server import EmbeddedServer

async def main():
    async with EmbeddedServer(Path(sys.argv[1])) as server:
        if "fork" in sys.argv[2:]:
            child = os.fork()
            if not child:
                time.sleep(60)
                os._exit(0)
        else:
            child = 0
        print(json.dumps({"url": server.address.url, "child": child}), flush=True)
        if "die" in sys.argv[2:]:
            os._exit(1)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""

CHURN = """
import asyncio, random, sys
from pathlib import Path
from offbook.adapters.server import EmbeddedServer, layout
from offbook.adapters.server.handshake import handshake

async def main():
    folder = Path(sys.argv[1])
    chance = random.Random(int(sys.argv[2]))
    for _ in range(int(sys.argv[3])):
        async with EmbeddedServer(folder):
            await asyncio.sleep(chance.choice([0, 0, 0.02]))
            await handshake(layout.read_state(folder))
        await asyncio.sleep(chance.choice([0, 0.05, 0.2, 0.25]))

asyncio.run(main())
"""


class Client:
    """A client in a process of its own."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(folder), *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.facts: dict[str, Any] = {}

    def opened(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the client did not open"
        self.facts = json.loads(line)
        return str(self.facts["url"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate(timeout=LIMIT_SECONDS)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def kept_by(folder: Path, word: str = "") -> list[int]:
    """Return the supervisors and servers of a folder, by their command lines."""
    found: list[int] = []
    for process in psutil.process_iter():
        try:
            command = process.cmdline()
        except psutil.Error:
            continue
        line = " ".join(command)
        kept = "nats-server -c" in line or "server.supervisor" in line
        if kept and str(folder) in line and word in line:
            found.append(process.pid)
    return found


def servers(folder: Path) -> list[int]:
    return kept_by(folder, "nats-server -c")


def supervisors(folder: Path) -> list[int]:
    return kept_by(folder, "server.supervisor")


async def eventually(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(LIMIT_SECONDS):
        while not condition():
            await asyncio.sleep(0.02)


async def replaced(kind: Callable[[Path], list[int]], folder: Path, old: int) -> None:
    """Return when there are processes of a kind, and the old one is not the only one."""
    await eventually(lambda: kind(folder) not in ([], [old]))


async def recovered(folder: Path) -> None:
    """Return when the folder's server answers again."""
    async with asyncio.timeout(LIMIT_SECONDS):
        while not (await EmbeddedServer(folder).status())["ready"]:
            await asyncio.sleep(0.02)


async def request(address: ServerAddress, subject: str, body: str = "") -> dict[str, Any]:
    """Ask the server's JetStream API something."""
    port = int(address.url.rsplit(":", 1)[1])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    login = {"verbose": False, "user": address.user, "pass": address.password}
    writer.write(
        f"CONNECT {json.dumps(login)}\r\nSUB answer 1\r\n"
        f"PUB {subject} answer {len(body)}\r\n{body}\r\n".encode()
    )
    await writer.drain()
    while not (line := (await reader.readline()).decode()).startswith("MSG"):
        assert line
        assert not line.startswith("-ERR")
    size = int(line.split()[-1])
    answer: dict[str, Any] = json.loads(await reader.readexactly(size))
    writer.close()
    return answer


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose server is gone soon after its last client, which is checked at the end."""
    monkeypatch.setenv(layout.LINGER_VARIABLE, "0.2")
    path = tmp_path / ".offbook"
    yield path
    deadline = time.monotonic() + LIMIT_SECONDS
    while (left := kept_by(tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.02)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left, "a process was left behind"


# Sharing


async def test_processes_of_a_folder_share_one_server(folder: Path) -> None:
    with Client(folder) as one, Client(folder) as two:
        async with EmbeddedServer(folder) as server:
            assert {one.opened(), two.opened()} == {server.address.url}
            assert len(servers(folder)) == 1
            assert len(supervisors(folder)) == 1


async def test_many_simultaneous_starts_give_one_server(folder: Path) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(folder)) for _ in range(20)]
        assert len({client.opened() for client in clients}) == 1
        assert len(servers(folder)) == 1
        assert len(supervisors(folder)) == 1
        log = (folder / layout.SUPERVISOR_LOG).read_text()
        assert log.count("started on port") == 1


async def test_threads_of_a_process_share_one_server(folder: Path) -> None:
    urls: list[str] = []
    barrier = threading.Barrier(8)

    async def hold() -> None:
        async with EmbeddedServer(folder) as server:
            urls.append(server.address.url)
            await asyncio.to_thread(barrier.wait)

    threads = [threading.Thread(target=lambda: asyncio.run(hold())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    assert len(urls) == 8
    assert len(set(urls)) == 1


async def test_two_folders_have_two_servers_that_refuse_each_other_s_clients(folder: Path) -> None:
    other = folder.parent / "other"
    async with EmbeddedServer(folder) as one, EmbeddedServer(other) as two:
        assert one.address.url != two.address.url
        assert one.address.password != two.address.password
        mine, theirs = layout.read_state(folder), layout.read_state(other)
        assert mine is not None
        assert theirs is not None
        with pytest.raises(NotReady, match="another server"):
            await handshake(dataclasses.replace(mine, port=theirs.port))


async def test_opening_and_closing_twice_is_no_change(folder: Path) -> None:
    server = EmbeddedServer(folder)
    assert await server.open() == await server.open()
    await server.close()
    await server.close()
    with pytest.raises(ClientClosed):
        _ = server.address


async def test_a_closed_hold_can_be_opened_again(folder: Path) -> None:
    server = EmbeddedServer(folder)
    first = await server.open()
    await server.close()
    assert (await server.open()).url == first.url
    os.kill(supervisors(folder)[0], signal.SIGKILL)
    await recovered(folder)
    await server.close()


# Deaths


async def test_a_killed_server_is_back_on_its_port(folder: Path) -> None:
    async with EmbeddedServer(folder) as server:
        before = server.address
        [pid] = servers(folder)
        os.kill(pid, signal.SIGKILL)
        await replaced(servers, folder, pid)
        await recovered(folder)
        assert server.address == before
        assert (await server.status())["restarts"] == 1


async def test_a_server_that_is_killed_again_and_again_comes_back(folder: Path) -> None:
    async with EmbeddedServer(folder) as server:
        before = server.address
        for _ in range(4):
            await recovered(folder)
            os.kill(servers(folder)[0], signal.SIGKILL)
        await recovered(folder)
        assert server.address == before
        assert len(servers(folder)) == 1


async def test_a_killed_supervisor_is_replaced_and_leaves_one_server(folder: Path) -> None:
    async with EmbeddedServer(folder) as server:
        [old_server], [old_supervisor] = servers(folder), supervisors(folder)
        os.kill(old_supervisor, signal.SIGKILL)
        await replaced(supervisors, folder, old_supervisor)
        await replaced(servers, folder, old_server)
        await recovered(folder)
        assert len(servers(folder)) == 1
        # One that was not elected may need a moment to leave.
        await eventually(lambda: len(supervisors(folder)) == 1)
        assert (await server.status())["url"] == server.address.url


async def test_a_killed_supervisor_is_replaced_once_by_many_clients(folder: Path) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(folder)) for _ in range(6)]
        urls = {client.opened() for client in clients}
        for _ in range(3):
            [old] = supervisors(folder)
            os.kill(old, signal.SIGKILL)
            await replaced(supervisors, folder, old)
            await recovered(folder)
            await eventually(lambda: len(supervisors(folder)) == 1)
            assert len(servers(folder)) == 1
        state = layout.read_state(folder)
        assert state is not None
        assert urls == {f"nats://127.0.0.1:{state.port}"}


async def test_a_supervisor_told_to_stop_takes_its_server_along(folder: Path) -> None:
    async with EmbeddedServer(folder):
        [old] = supervisors(folder)
        os.kill(old, signal.SIGTERM)
        await replaced(supervisors, folder, old)
        await recovered(folder)
        assert len(servers(folder)) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the next client ends the server")
async def test_a_server_dies_with_its_supervisor_when_no_client_is_there(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(layout.LINGER_VARIABLE, "60")
    async with EmbeddedServer(folder):
        pass
    assert len(servers(folder)) == 1
    os.kill(supervisors(folder)[0], signal.SIGKILL)
    await eventually(lambda: not kept_by(folder))


async def test_a_server_that_outlived_its_supervisor_is_replaced(folder: Path) -> None:
    async with EmbeddedServer(folder) as server:
        before = server.address
    await eventually(lambda: not kept_by(folder))
    slot = layout.try_lock(folder / layout.SERVER)
    assert slot is not None
    orphan = subprocess.Popen(
        [find_binary(), "-c", folder / layout.CONFIG], cwd=folder, pass_fds=[slot]
    )
    layout.write_note(slot, pid=orphan.pid)
    os.close(slot)
    async with EmbeddedServer(folder) as server:
        await asyncio.to_thread(orphan.wait)
        await recovered(folder)
        assert server.address == before
        assert len(servers(folder)) == 1


async def test_a_number_left_by_a_crashed_machine_kills_nobody(folder: Path) -> None:
    folder.mkdir()
    innocent = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    for name in (layout.SERVER, layout.SUPERVISOR):
        (folder / name).write_text(json.dumps({"pid": innocent.pid, "restarts": 0}))
    async with EmbeddedServer(folder) as server:
        assert (await server.status())["ready"]
        assert innocent.poll() is None
    innocent.communicate()


# Going


async def test_the_server_goes_when_the_last_client_leaves(folder: Path) -> None:
    async with EmbeddedServer(folder) as server:
        with Client(folder) as other:
            other.opened()
        status = await server.status()
        assert status["ready"]
    await eventually(lambda: not kept_by(folder))
    await eventually(
        lambda: not any(psutil.pid_exists(status[key]) for key in ("server", "supervisor"))
    )
    assert (await server.status())["supervisor"] is None


async def test_the_server_goes_when_the_last_client_is_killed(folder: Path) -> None:
    with Client(folder) as one, Client(folder) as two:
        one.opened()
        two.opened()
        assert len(servers(folder)) == 1
        one.kill()
        two.kill()
        await eventually(lambda: not kept_by(folder))


async def test_a_client_that_dies_right_after_the_start_leaves_nothing(folder: Path) -> None:
    with Client(folder, "die") as client:
        assert client.opened()
    await eventually(lambda: not kept_by(folder))


async def test_a_forked_child_of_a_client_does_not_keep_the_server(folder: Path) -> None:
    with Client(folder, "fork") as client:
        client.opened()
        child = int(client.facts["child"])
        client.kill()
        await eventually(lambda: not kept_by(folder))
        assert psutil.pid_exists(child)
        os.kill(child, signal.SIGKILL)


async def test_the_server_stays_for_the_grace(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(layout.LINGER_VARIABLE, "60")
    async with EmbeddedServer(folder):
        [pid] = servers(folder)
    async with EmbeddedServer(folder):
        assert servers(folder) == [pid]
    os.kill(supervisors(folder)[0], signal.SIGTERM)


async def test_newcomers_at_the_moment_of_leaving_always_find_a_server(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(layout.LINGER_VARIABLE, "0")
    folder.mkdir(mode=0o700)
    churners = [
        subprocess.Popen(
            [sys.executable, "-c", CHURN, str(folder), str(seed), "25"], stderr=subprocess.PIPE
        )
        for seed in range(4)
    ]
    most = 0
    while any(churner.poll() is None for churner in churners):
        most = max(most, len(servers(folder)))
        await asyncio.sleep(0.005)
    complaints = [churner.communicate()[1] for churner in churners]
    assert complaints == [b""] * len(churners)
    assert most == 1
    log = (folder / layout.SUPERVISOR_LOG).read_text()
    assert log.count("no client is left") > 1
    assert "died" not in log


# Secrets and data


async def test_credentials_are_private_and_the_server_is_on_loopback_alone(folder: Path) -> None:
    async with EmbeddedServer(folder) as server:
        for name in (layout.STATE, layout.CONFIG, layout.CLIENTS):
            assert (folder / name).stat().st_mode & 0o777 == 0o600
        assert folder.stat().st_mode & 0o777 == 0o700
        assert (folder / ".gitignore").read_text() == "*\n"
        assert server.address.password not in repr(server.address) + repr(server)
        [pid] = servers(folder)
        listening = [
            f"nats://{place.laddr.ip}:{place.laddr.port}"
            for place in psutil.Process(pid).net_connections()
            if place.status == psutil.CONN_LISTEN
        ]
        assert listening == [server.address.url]
        assert server.address.password not in " ".join(psutil.Process(pid).cmdline())


async def test_a_wrong_password_is_refused(folder: Path) -> None:
    async with EmbeddedServer(folder):
        state = layout.read_state(folder)
        assert state is not None
        assert await handshake(state)
        with pytest.raises(NotReady, match="Authorization Violation"):
            await handshake(dataclasses.replace(state, password="guess"))


async def test_data_survive_a_stop_and_a_start(folder: Path) -> None:
    async with EmbeddedServer(folder) as server:
        before = server.address
        body = json.dumps({"name": "kept", "subjects": ["kept"], "storage": "file"})
        await request(before, "$JS.API.STREAM.CREATE.kept", body)
        assert (await request(before, "kept", "a line"))["seq"] == 1
    await eventually(lambda: not kept_by(folder))
    async with EmbeddedServer(folder) as server:
        assert server.address == before
        info = await request(before, "$JS.API.STREAM.INFO.kept")
        assert info["state"]["messages"] == 1


async def test_every_write_is_synced(folder: Path) -> None:
    async with EmbeddedServer(folder):
        assert "sync_interval: always" in (folder / layout.CONFIG).read_text()


@pytest.mark.parametrize("told", [None, "75"])
async def test_the_server_s_memory_grows_by_a_third_unless_the_environment_says_else(
    folder: Path, monkeypatch: pytest.MonkeyPatch, told: str | None
) -> None:
    monkeypatch.delenv("GOGC", raising=False)
    if told is not None:
        monkeypatch.setenv("GOGC", told)
    async with EmbeddedServer(folder) as server:
        facts = await server.status()
        assert psutil.Process(facts["server"]).environ()["GOGC"] == (told or "30")


async def test_a_folder_that_was_moved_keeps_its_data(folder: Path) -> None:
    async with EmbeddedServer(folder) as server:
        body = json.dumps({"name": "kept", "subjects": ["kept"], "storage": "file"})
        await request(server.address, "$JS.API.STREAM.CREATE.kept", body)
    await eventually(lambda: not kept_by(folder))
    moved = folder.rename(folder.with_name("moved é \" {x} '"))
    async with EmbeddedServer(moved) as server:
        assert "config" in await request(server.address, "$JS.API.STREAM.INFO.kept")


# Trouble


async def test_a_folder_removed_while_open_ends_its_server(folder: Path) -> None:
    async with EmbeddedServer(folder) as server:
        moved = folder.rename(folder.with_name("elsewhere"))
        await eventually(lambda: not kept_by(folder))
        async with asyncio.timeout(LIMIT_SECONDS):
            while "moved or removed" not in (await server.status())["problem"]:
                await asyncio.sleep(0.02)
        async with EmbeddedServer(moved) as other:
            assert other.address.url == f"nats://127.0.0.1:{_port(moved)}"


def _port(folder: Path) -> int:
    state = layout.read_state(folder)
    assert state is not None
    return state.port


async def test_a_taken_port_is_replaced_by_another(folder: Path) -> None:
    async with EmbeddedServer(folder):
        before = _port(folder)
    await eventually(lambda: not kept_by(folder))
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind(("127.0.0.1", before))
        squatter.listen()
        async with EmbeddedServer(folder) as server:
            assert server.address.url != f"nats://127.0.0.1:{before}"


async def test_an_open_client_learns_that_the_port_moved(folder: Path) -> None:
    async with EmbeddedServer(folder) as server:
        before = server.address
        state = layout.read_state(folder)
        assert state is not None
        with socket.socket() as squatter:
            squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            squatter.bind(("127.0.0.2", 0))
            moved = dataclasses.replace(state, port=squatter.getsockname()[1])
        layout.write_state(folder, moved)
        os.kill(servers(folder)[0], signal.SIGKILL)
        await eventually(lambda: server.address != before)
        await recovered(folder)
        assert server.address.url.endswith(f":{moved.port}")


async def test_a_torn_state_is_written_anew(folder: Path) -> None:
    folder.mkdir()
    (folder / layout.STATE).write_text('{"format": 1, "po')
    async with EmbeddedServer(folder) as server:
        assert _port(folder) == int(server.address.url.rsplit(":", 1)[1])


async def test_a_state_of_another_version_is_refused(folder: Path) -> None:
    folder.mkdir()
    (folder / layout.STATE).write_text('{"format": 99}')
    with pytest.raises(ServerFolderUnusable, match="another version"):
        await EmbeddedServer(folder).open()
    (folder / layout.STATE).write_text("[]")


async def test_a_folder_of_another_user_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    with pytest.raises(ServerFolderUnusable, match="belongs to user"):
        await EmbeddedServer(folder).open()


async def test_a_folder_that_cannot_be_made_is_told(folder: Path) -> None:
    folder.write_text("in the way")
    with pytest.raises(ServerFolderUnusable, match="exists"):
        await EmbeddedServer(folder).open()
    with pytest.raises(ServerFolderUnusable, match="too long"):
        await EmbeddedServer(folder.parent / ("x" * 300)).open()
    with pytest.raises(ServerFolderUnusable, match="too long"):
        await EmbeddedServer(Path("/" + "x" * 100 + "/y" * 4000)).open()


async def test_a_folder_that_cannot_be_written_is_told() -> None:
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / ".offbook"
        folder.mkdir(mode=0o500)
        nobody = 65534
        became = os.geteuid() == 0
        if became:
            Path(parent).chmod(0o755)
            os.chown(folder, nobody, -1)
            os.seteuid(nobody)
        try:
            with pytest.raises(ServerFolderUnusable, match=r"cannot be written|ermission"):
                await EmbeddedServer(folder).open()
        finally:
            if became:
                os.seteuid(0)


async def test_a_server_that_cannot_start_is_told_with_its_log(folder: Path) -> None:
    folder.mkdir()
    (folder / layout.DATA).write_text("in the way")
    with pytest.raises(EmbeddedServerFailed) as caught:
        await EmbeddedServer(folder, timeout=2).open()
    assert caught.value.log == str(folder / layout.SERVER_LOG)
    assert "died (exit code 1" in str(caught.value)
    assert "storage directory is not a directory" in str(caught.value)


async def test_a_missing_server_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Path:
        raise ServerMissing

    monkeypatch.setattr(embedded, "find_binary", missing)
    with pytest.raises(ServerMissing):
        await EmbeddedServer(folder).open()
    assert not kept_by(folder)


async def test_a_failed_open_can_be_tried_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> Path:
        raise ServerMissing

    server = EmbeddedServer(folder)
    with monkeypatch.context() as patch:
        patch.setattr(embedded, "find_binary", missing)
        with pytest.raises(ServerMissing):
            await server.open()
    assert await server.open()
    await server.close()


async def test_a_cancelled_open_holds_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asyncio.Event()

    async def silent(_state: layout.State) -> str:
        asked.set()
        await asyncio.Event().wait()
        return ""

    monkeypatch.setattr(embedded, "handshake", silent)
    server = EmbeddedServer(folder)
    opening = asyncio.create_task(server.open())
    await asked.wait()
    assert supervisors(folder)
    opening.cancel()
    await asyncio.wait([opening])
    assert opening.cancelled()
    await eventually(lambda: not kept_by(folder))


@pytest.mark.parametrize("value", ["soon", "-1", "nan", "inf"])
async def test_a_bad_grace_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv(layout.LINGER_VARIABLE, value)
    with pytest.raises(InvalidOption, match=layout.LINGER_VARIABLE):
        await EmbeddedServer(folder).open()


async def test_other_systems_are_told_to_give_a_url(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cast("Any", embedded).sys, "platform", "win32")
    with pytest.raises(ServerUnsupported, match="OFFBOOK_URL"):
        await EmbeddedServer(folder).open()


async def test_the_supervisor_is_detached_and_light(folder: Path) -> None:
    async with EmbeddedServer(folder):
        [pid] = supervisors(folder)
        assert os.getsid(pid) != os.getsid(0)
        assert psutil.Process(pid).ppid() != os.getpid()
        heavy = {"asyncio", "pydantic", "nats", "structlog", "opentelemetry", "msgpack"}
        module = "offbook.adapters.server.supervisor"
        code = f"import sys, {module}; print(*sys.modules)"
        loaded = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        assert not heavy & set(loaded.stdout.split())


async def test_the_log_of_the_supervisor_is_bounded(folder: Path) -> None:
    folder.mkdir()
    log = folder / layout.SUPERVISOR_LOG
    log.write_bytes(b"x" * (2 << 20))
    async with EmbeddedServer(folder):
        assert log.stat().st_size < 1 << 20
