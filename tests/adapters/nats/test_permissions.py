"""Roles on a real server: each may do what it needs, and nothing else."""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from offbook import (
    Client,
    ConnectOptions,
    InvalidOption,
    PermissionMissing,
    Run,
    ServerRefused,
    Settings,
    Worker,
    connect,
    hook,
    sleep,
    step,
    stream,
    topic,
    webhook,
    workflow,
)
from offbook.actors.machine_webhooks import addresses
from offbook.actors.ports import Namespace
from offbook.adapters.http import Edge
from offbook.adapters.nats import NatsBackend
from offbook.adapters.nats.link import Link
from offbook.adapters.nats.options import ROLES, target
from offbook.adapters.nats.permissions import covers, missing, permissions, render
from support.commands import Place
from support.servers import NatsServer

SPACE = Namespace("offbook", partitions=2, shards=1)
ROOT = Path(__file__).parents[3]


def options(role: str, **more: Any) -> ConnectOptions:  # noqa: ANN401 - of ConnectOptions
    return ConnectOptions(user=role, password=role, role=role, **more)


def config(text: str) -> str:
    """Return a configuration with the roles' names as their passwords."""
    for role in (*ROLES, "sys"):
        text = text.replace(f"$OFFBOOK_{role.upper()}_PASSWORD", role)
    return text


@pytest.fixture(scope="module")
def server() -> Iterator[NatsServer]:
    with NatsServer(config=config(render(SPACE))) as found:
        asyncio.run(made(found.url))
        yield found


async def made(url: str) -> None:
    async with connect(url, options=options("setup"), partitions=2, shards=1):
        pass


# The matrix

PUBLISH: dict[str, str] = {
    "$KV.offbook_log0.0.r.t.1": "worker",
    "$KV.offbook_log0.0.r.0": "worker client",
    "$KV.offbook_log0.0.r.z": "worker janitor",
    "$KV.offbook_leases.worker.w": "worker",
    "$KV.offbook_leases.owner.default.0": "worker",
    "$KV.offbook_runs.r": "worker",
    "$KV.offbook_hooks.k": "worker",
    "$KV.offbook_deployments.d": "worker",
    "$KV.offbook_settings.other": "setup",
    "offbook.mail.default.0.r.start": "worker client",
    "offbook.mail.default.0.r.hook": "worker client webhook",
    "offbook.mail.default.0.r.terminate": "worker client",
    "offbook.mail.default.0.r.result": "worker",
    "offbook.mail.default.0.r.child": "worker",
    "offbook.timer.0.r.x": "worker",
    "offbook.fired.default.0.r": "",
    "offbook.task.d.q.r.s.1": "worker",
    "offbook.later.d.q.r.s.1": "worker",
    "offbook.blob.r.d.0": "worker client webhook",
    "offbook.out.r.s": "worker client",
    "offbook.topic.t": "worker client",
    "offbook.signal.cancel": "worker",
    "offbook.evt.0.r.t.1": "",
    "offbook.lease.worker.w": "",
    "other.mail.default.0.r.start": "",
    "$JS.ACK.offbook_mail.c.1.1.1.1.0": "worker",
    "$JS.ACK.offbook_out.c.1.1.1.1.0": "",
    "_INBOX_worker.x.1": "",
}
ASK: dict[str, str] = {
    "INFO": " ".join(ROLES),
    "STREAM.INFO.offbook_mail": " ".join(ROLES),
    "STREAM.INFO.KV_other_log0": "",
    "STREAM.NAMES": "",
    "STREAM.LIST": "",
    "STREAM.CREATE.offbook_mail": "setup",
    "STREAM.CREATE.other": "",
    "STREAM.UPDATE.offbook_mail": "",
    "STREAM.DELETE.offbook_mail": "",
    "STREAM.SNAPSHOT.offbook_mail": "",
    "STREAM.LEADER.STEPDOWN.offbook_mail": "",
    "STREAM.MSG.DELETE.KV_offbook_log0": "",
    "STREAM.PURGE.KV_offbook_log0": "worker janitor",
    "STREAM.PURGE.offbook_timers": "worker janitor",
    "STREAM.PURGE.offbook_steps": "worker",
    "STREAM.PURGE.offbook_mail": "",
    "STREAM.PURGE.KV_offbook_leases": "",
    "STREAM.MSG.GET.KV_offbook_log0": "worker janitor client webhook web",
    "STREAM.MSG.GET.KV_offbook_hooks": "worker janitor client webhook web",
    "STREAM.MSG.GET.offbook_mail": "worker",
    "STREAM.MSG.GET.offbook_timers": "",
    "DIRECT.GET.KV_offbook_runs": "worker janitor client web",
    "DIRECT.GET.offbook_out": "worker janitor client web",
    "DIRECT.GET.KV_offbook_leases": "worker client web",
    "CONSUMER.CREATE.offbook_mail.c": "worker",
    "CONSUMER.CREATE.KV_offbook_log0.c": "",
    "CONSUMER.MSG.NEXT.offbook_steps.c": "worker",
    "CONSUMER.DELETE.offbook_mail.c": "worker",
    "CONSUMER.NAMES.offbook_timers": "worker",
}
LISTEN: dict[str, str] = {
    "offbook.evt.>": "worker client webhook web",
    "$JS.EVENT.ADVISORY.*.LEADER_ELECTED.>": " ".join(ROLES),
    "$JS.EVENT.ADVISORY.>": "",
    "offbook.heard.>": "worker client web",
    "offbook.lease.>": "worker web",
    "offbook.signal.>": "worker client webhook web",
    "offbook.mail.>": "",
    "$KV.offbook_log0.>": "",
    ">": "",
    "_INBOX.>": "",
    **{f"_INBOX_{role}.>": role for role in ROLES},
}


def ignored(_subject: bytes, _reply: bytes, _headers: bytes, _data: bytes) -> None:
    return


async def denied(link: Link, subject: str) -> bool:
    """Return whether the server has said no to a subject by now."""
    await link.flush()
    return any(f'"{subject.lower()}"' in message for message in link.denials)


async def row(url: str, role: str) -> dict[str, bool]:
    """Return what the server lets a role do: all that is in the tables, tried."""
    link = Link(target(url, options(role)))
    await link.open()
    found: dict[str, bool] = {}
    try:
        for subject in PUBLISH:
            link.tell(subject.encode(), b"")
        for verb in ASK:
            link.send(f"$JS.API.{verb}".encode(), b"{}", reply=link.inbox().encode())
        listeners = [link.listen(subject, ignored) for subject in LISTEN]
        for table, prefix in ((PUBLISH, ""), (ASK, "$JS.API."), (LISTEN, "")):
            for name in table:
                found[name] = not await denied(link, f"{prefix}{name}")
        for listener in listeners:
            listener.stop()
    finally:
        await link.close()
    return found


@pytest.mark.parametrize("role", ROLES)
async def test_a_role_may_do_what_it_needs_and_nothing_else(server: NatsServer, role: str) -> None:
    wanted = {name: role in roles.split() for name, roles in (PUBLISH | ASK | LISTEN).items()}
    assert await row(server.url, role) == wanted
    assert len(wanted) * len(ROLES) >= 60


async def test_no_header_gives_a_client_power_over_a_stream(server: NatsServer) -> None:
    link = Link(target(server.url, options("client")))
    await link.open()
    try:
        for subject in (b"offbook.mail.default.0.wipe.start", b"$KV.offbook_log0.0.wipe.0"):
            for header in (b"Nats-Rollup: all", b"Nats-Schedule: @at 2099-01-01T00:00:00Z"):
                block = b"NATS/1.0\r\n" + header + b"\r\n\r\n"
                _, data = await link.ask(subject, b"", block)
                assert b'"error"' in data
    finally:
        await link.close()


# What offbook itself does, under its roles


@step(queue="far")
async def far(text: str) -> int:
    await stream("said").write("from a step")
    await topic("news").write("to all")
    return len(text)


@workflow
async def much(text: str) -> str:
    length = await far(text)
    await sleep(timedelta(seconds=0.5))
    payload: str = await hook(str, token=text[:40])
    async with webhook(respond_with="manual") as web:
        request = await web
        await request.respond(body=request.body)
    return f"{length} {payload}"


SOON = Settings(short_timer=0.1, summary_delay=0.05, idle=0.2)


@asynccontextmanager
async def client_of(server: NatsServer, role: str) -> AsyncGenerator[Client]:
    """Open a client in a role; at its end, nothing that it did was denied."""
    async with connect(server.url, options=options(role), settings=SOON) as client:
        yield client
        backend = client.backend
        assert isinstance(backend, NatsBackend)
        assert (await backend.health())["problems"] == []
        assert backend.faults == []


async def opened(run: Run[Any], count: int) -> None:
    async for event in run.events(follow=True):
        count -= event.type == "hook_opened"
        if not count:
            return


async def test_all_roles_do_their_work(server: NatsServer) -> None:
    async with AsyncExitStack() as stack:
        clients = {role: await stack.enter_async_context(client_of(server, role)) for role in ROLES}
        await stack.enter_async_context(Worker(clients["worker"], queues=["default"], lease=3))
        await stack.enter_async_context(Worker(clients["worker"], workflows=[], queues=["far"]))
        token = secrets.token_hex(16)
        text = token + "x" * 300_000
        run = await clients["client"].start(much, text)
        await opened(run, 1)
        await clients["client"].resume(text[:40], "resumed")
        await opened(run, 2)
        await sent(clients["webhook"], await clients["client"].history(run.id))
        assert await run.result() == f"{len(text)} resumed"
        seen: Run[Any] = clients["web"].run(run.id)
        assert [chunk async for chunk in seen.stream("said")] == ["from a step"]
        assert (await seen.view()).status == "completed"
        assert [s.id async for s in clients["web"].runs()] == [run.id]
        await clients["janitor"].purge_run(run.id)
        assert [s.id async for s in clients["client"].runs()] == []


async def sent(client: Client, history: Any) -> None:  # noqa: ANN401 - of the client
    (address,) = addresses(history)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(Edge(client))) as http:
        reply = await http.post(f"http://edge{address.url}", content="y" * 300_000)
    assert (reply.status_code, len(reply.content)) == (200, 300_000)


# What is missing is said at once


@pytest.mark.parametrize(
    ("lacking", "what"),
    [
        ("offbook.task.>", "publish to"),
        ("$JS.API.CONSUMER.MSG.NEXT.offbook_mail.>", "publish to"),
        ("offbook.lease.>", "listen to"),
    ],
)
def test_what_a_role_lacks_is_named_at_the_start(lacking: str, what: str) -> None:
    text = config(render(SPACE)).replace(f'"{lacking}"', '"nothing"')
    with NatsServer(config=text) as server:
        asyncio.run(made(server.url))
        with pytest.raises(PermissionMissing) as caught:
            asyncio.run(refused(server.url, options("worker")))
    error = caught.value
    assert (error.what, error.subject, error.role) == (what, lacking, "worker")
    assert "'worker'" in str(error)
    assert lacking in str(error)


async def refused(url: str, chosen: ConnectOptions) -> None:
    async with connect(url, options=chosen):
        pass


async def test_answers_that_may_not_come_are_named_at_the_start(server: NatsServer) -> None:
    foreign = replace(options("worker"), role=None)
    with pytest.raises(PermissionMissing, match="_INBOX") as caught:
        await refused(server.url, foreign)
    assert (caught.value.what, caught.value.role) == ("listen to", "worker")


async def test_a_request_that_is_denied_is_an_error_at_once(server: NatsServer) -> None:
    async with connect(server.url, options=options("webhook")) as client:
        with pytest.raises(PermissionMissing, match="KV_offbook_runs") as caught:
            await asyncio.wait_for(_list(client), 4)
        assert isinstance(caught.value, ServerRefused)
        with pytest.raises(PermissionMissing, match="KV_offbook_deployments"):
            await client.start(much, "x")


async def _list(client: Client) -> list[object]:
    return [summary async for summary in client.runs()]


async def test_a_server_without_rules_permits_all(nats_url: str, namespace: str) -> None:
    chosen = ConnectOptions(role="worker")
    async with connect(nats_url, namespace=namespace, options=chosen) as client:
        assert client.is_open


async def test_a_role_that_is_none_is_refused(nats_url: str, namespace: str) -> None:
    with pytest.raises(InvalidOption, match="role"):
        connect(nats_url, namespace=namespace, options=ConnectOptions(role="king"))


# Without a server


@pytest.mark.parametrize(
    ("pattern", "subject", "takes_in"),
    [
        ("a.>", "a.b", True), ("a.>", "a.b.c", True), ("a.>", "a", False), ("a.>", "b.c", False),
        ("a.*", "a.b", True), ("a.*", "a.b.c", False), ("a.*", "a.>", False), ("a.>", "a.>", True),
        (">", "a.>", True), ("a.b", "a.b", True), ("a.b", "a.*", False), ("a.*.c", "a.*.c", True),
        ("a.>", "a.*.c", True), ("a.b.c", "a.b", False),
    ],
)  # fmt: skip
def test_patterns_take_in(pattern: str, subject: str, *, takes_in: bool) -> None:
    assert covers(pattern, subject) == takes_in


def test_what_is_missing() -> None:
    assert missing(["a.b"], [], []) == []
    assert missing(["a.b"], ["a.*"], []) == []
    assert missing(["a.b", "c"], ["a.*"], []) == ["c"]
    assert missing(["a.b"], [], ["a.>"]) == ["a.b"]


def test_groups_have_streams_of_their_own() -> None:
    found = permissions("client", SPACE, ["audit"])
    assert "$JS.API.DIRECT.GET.offbook_topics_audit" in found.publish
    assert not any("audit" in s for s in permissions("client", SPACE).publish)
    assert not any(s in {">", "$JS.>", "$JS.API.>"} for r in ROLES for s in _all(r))


def _all(role: str) -> tuple[str, ...]:
    found = permissions(role, SPACE, ["audit"])
    return found.publish + found.subscribe


def test_the_file_in_the_tree_is_what_the_command_prints(tmp_path: Path) -> None:
    path = ROOT / "ops" / "deploy" / "nats" / "permissions.conf"
    if not path.exists():
        pytest.skip("no deployment files in this tree")
    done = Place(tmp_path).inside("namespace", "permissions")
    assert (done.code, done.out) == (0, path.read_text())
    other = Place(tmp_path).inside(
        "namespace", "permissions", "--namespace", "shop", "--shards", "1", "--group", "audit"
    )
    assert other.out == render(Namespace("shop", 16, 1), ["audit"])
