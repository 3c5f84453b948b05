"""Opening a namespace: what is made, what is checked, what is refused."""

import asyncio
import json
import subprocess
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from offbook.actors.errors import (
    InvalidName,
    InvalidOption,
    NamespaceMismatch,
    OffbookError,
    ServerRefused,
    ServerTooOld,
    ServerUnavailable,
    ServerUnfit,
)
from offbook.actors.ports import Namespace
from offbook.adapters.nats import ConnectOptions, NatsBackend, setup
from support.nats import opened
from support.servers import NatsServer, free_port

SHORT = ConnectOptions(open_seconds=0.5)


async def api(
    backend: NatsBackend, verb: str, body: dict[str, Any] | None = None
) -> dict[str, Any]:
    raw = b"" if body is None else json.dumps(body).encode()
    link = backend._link  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  by hand, as an operator
    reply: dict[str, Any] = json.loads((await link.ask(f"$JS.API.{verb}".encode(), raw))[1])
    assert "error" not in reply, reply
    return reply


async def change(backend: NatsBackend, stream: str, **settings: object) -> None:
    """Change a stream by hand."""
    config = (await api(backend, f"STREAM.INFO.{stream}"))["config"]
    await api(backend, f"STREAM.UPDATE.{stream}", config | settings)


async def test_a_new_namespace_has_the_defaults(nats_url: str, namespace: str) -> None:
    async with opened(nats_url, namespace) as backend:
        assert backend.namespace == Namespace(namespace, partitions=16, shards=4, replicas=1)
        assert (await backend.health())["problems"] == []


async def test_the_stored_settings_win_where_none_are_asked(nats_url: str, namespace: str) -> None:
    async with opened(nats_url, namespace, partitions=3, shards=2):
        pass
    async with opened(nats_url, namespace) as backend:
        assert backend.namespace == Namespace(namespace, partitions=3, shards=2, replicas=1)


@pytest.mark.parametrize("setting", ["partitions", "shards", "replicas"])
async def test_other_settings_than_the_stored_ones_are_refused(
    nats_url: str, namespace: str, setting: str
) -> None:
    async with opened(nats_url, namespace):
        pass
    async with opened(nats_url, namespace, partitions=16, shards=4, replicas=1):
        pass
    asked: dict[str, Any] = {"partitions": 16, "shards": 4, "replicas": 1} | {setting: 3}
    with pytest.raises(NamespaceMismatch) as caught:
        await NatsBackend(nats_url, namespace=namespace, **asked).open()
    assert (caught.value.setting, caught.value.asked) == (setting, 3)


@pytest.mark.parametrize("value", [0, -1, 2000, True])
def test_settings_out_of_bounds_are_refused(value: int) -> None:
    with pytest.raises(InvalidOption):
        NatsBackend("localhost", partitions=value)


def test_a_namespace_that_is_no_name_is_refused() -> None:
    with pytest.raises(InvalidName):
        NatsBackend("localhost", namespace="a.b")


async def test_namespaces_do_not_see_each_other(nats_url: str, namespace: str) -> None:
    async with opened(nats_url, namespace) as one, opened(nats_url, f"{namespace}2") as two:
        await one.log.create("r", "0", b"one")
        await one.runs.create("k", b"one")
        assert await two.log.history("r") == []
        assert await two.runs.get("k") is None


async def test_replicas_without_servers_for_them_are_refused(nats_url: str, namespace: str) -> None:
    with pytest.raises(ServerUnfit, match="replicas"):
        await NatsBackend(nats_url, namespace=namespace, replicas=3).open()


@pytest.mark.parametrize("version", ["2.14.9", "2.9.0", "1.4.1", "", "unknown"])
def test_an_old_server_is_refused(version: str) -> None:
    with pytest.raises(ServerTooOld):
        setup.check_server({"version": version})


@pytest.mark.parametrize("version", ["2.15.0", "2.15.1", "2.16.0-beta.1", "3.0.0"])
def test_a_server_that_is_new_enough_is_taken(version: str) -> None:
    setup.check_server({"version": version})


async def test_a_server_without_jetstream_is_unfit(namespace: str) -> None:
    with NatsServer(jetstream=False) as server, pytest.raises(ServerUnfit, match="jetstream"):
        await NatsBackend(server.url, namespace=namespace).open()


async def test_an_account_without_jetstream_is_unfit(namespace: str) -> None:
    config = """
    accounts { A { jetstream: enabled }, B { users: [{ user: b, password: b }] } }
    """
    with NatsServer(config=config) as server:
        url = server.url.replace("//", "//b:b@")
        with pytest.raises(ServerUnfit, match="jetstream"):
            await NatsBackend(url, namespace=namespace).open()


async def test_a_server_that_is_not_there_is_unavailable(namespace: str) -> None:
    url = f"nats://127.0.0.1:{free_port()}"
    with pytest.raises(ServerUnavailable, match=url):
        await NatsBackend(url, namespace=namespace, options=SHORT).open()


async def test_one_server_that_is_there_is_enough(nats_url: str, namespace: str) -> None:
    dead = f"nats://127.0.0.1:{free_port()}"
    async with opened(f"{dead},{nats_url}", namespace) as backend:
        assert (await backend.health())["url"] == nats_url


async def test_credentials_are_checked_and_named(namespace: str) -> None:
    config = 'authorization { user: ann, password: "p@ss/word" }'
    with NatsServer(config=config) as server:
        async with opened(server.url.replace("//", "//ann:p%40ss%2Fword@"), namespace):
            pass
        wrong = ConnectOptions(user="ann", password="wrong")
        with pytest.raises(ServerRefused, match="user and password") as caught:
            await NatsBackend(server.url, namespace=namespace, options=wrong).open()
        assert "wrong" not in str(caught.value)
        with pytest.raises(ServerRefused, match="none were given"):
            await NatsBackend(server.url, namespace=namespace).open()


async def test_a_token_is_checked_and_named(namespace: str) -> None:
    with NatsServer(config="authorization { token: s3cret }") as server:
        async with opened(server.url.replace("//", "//s3cret@"), namespace):
            pass
        with pytest.raises(ServerRefused, match="token"):
            await NatsBackend(
                server.url, namespace=namespace, options=ConnectOptions(token="no")
            ).open()


async def test_an_nkey_seed_opens_the_door(namespace: str, tmp_path: Path) -> None:
    # Without types of its own, and optional.
    nkeys: Any = import_module("nkeys")
    seed = nkeys.encode_seed(bytes(range(32)), nkeys.PREFIX_BYTE_USER)
    public = nkeys.from_seed(bytearray(seed)).public_key.decode()
    file = tmp_path / "user.nk"
    file.write_bytes(seed)
    with NatsServer(config=f"authorization {{ users: [{{ nkey: {public} }}] }}") as server:
        async with opened(server.url, namespace, options=ConnectOptions(nkey_seed=str(file))):
            pass
        other = nkeys.encode_seed(bytes(32), nkeys.PREFIX_BYTE_USER)
        file.write_bytes(other)
        with pytest.raises(ServerRefused, match="nkey_seed"):
            await NatsBackend(
                server.url, namespace=namespace, options=ConnectOptions(nkey_seed=str(file))
            ).open()


def certificates(folder: Path) -> tuple[str, str]:
    """Make a certificate for 127.0.0.1 that signs itself; return it and its key."""
    cert, key = str(folder / "cert.pem"), str(folder / "key.pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1",
         "-addext", "keyUsage=critical,digitalSignature,keyCertSign"],
        check=True,
        capture_output=True,
    )  # fmt: skip
    return cert, key


async def test_tls_is_used_and_checked(namespace: str, tmp_path: Path) -> None:
    cert, key = certificates(tmp_path)
    config = f'tls {{ cert_file: "{cert}", key_file: "{key}" }}'
    with NatsServer(config=config) as server:
        url = server.url.replace("nats://", "tls://")
        async with opened(url, namespace, options=ConnectOptions(tls_ca=cert)) as backend:
            await backend.log.create("r", "0", b"head")
        untrusted = ConnectOptions(open_seconds=0.5)
        with pytest.raises(ServerUnavailable, match="certificate"):
            await NatsBackend(url, namespace=namespace, options=untrusted).open()


async def test_a_client_certificate_opens_the_door(namespace: str, tmp_path: Path) -> None:
    cert, key = certificates(tmp_path)
    config = f'tls {{ cert_file: "{cert}", key_file: "{key}", ca_file: "{cert}", verify: true }}'
    with NatsServer(config=config) as server:
        given = ConnectOptions(tls_ca=cert, tls_cert=cert, tls_key=key)
        async with opened(server.url, namespace, options=given):
            pass
        with pytest.raises(OffbookError):
            await NatsBackend(
                server.url,
                namespace=namespace,
                options=ConnectOptions(tls_ca=cert, open_seconds=0.5),
            ).open()


async def test_tls_that_was_asked_for_is_never_left_out(nats_url: str, namespace: str) -> None:
    url = nats_url.replace("nats://", "tls://")
    with pytest.raises(ServerUnfit, match="tls"):
        await NatsBackend(url, namespace=namespace).open()


@pytest.mark.parametrize(
    ("stream", "settings"),
    [
        ("mail", {"max_msgs": 1000}),
        ("mail", {"max_age": 10**12}),
        ("timers", {"max_bytes": 10**9}),
        ("steps", {"max_age": 10**12}),
        ("blobs", {"max_age": 10**12}),
        ("log0", {"max_age": 10**12}),
        ("log1", {"discard_new_per_subject": False}),
        ("log2", {"discard": "old", "discard_new_per_subject": False}),
        ("log3", {"allow_rollup_hdrs": True}),
    ],
)
async def test_a_stream_that_could_lose_runs_is_refused(
    nats_url: str, namespace: str, stream: str, settings: dict[str, object]
) -> None:
    name = f"KV_{namespace}_{stream}" if stream.startswith("log") else f"{namespace}_{stream}"
    async with opened(nats_url, namespace) as backend:
        await change(backend, name, **settings)
        assert any(name in problem for problem in (await backend.health())["problems"])
    with pytest.raises(ServerUnfit, match=name):
        await NatsBackend(nats_url, namespace=namespace).open()


async def test_a_drift_that_loses_nothing_is_reported(nats_url: str, namespace: str) -> None:
    async with opened(nats_url, namespace) as backend:
        await change(backend, f"KV_{namespace}_log0", republish=None, max_bytes=10**9)
        await change(backend, f"KV_{namespace}_runs", max_age=10**12)
    async with opened(nats_url, namespace) as backend:
        problems = "\n".join((await backend.health())["problems"])
        assert "log0: republish" in problems
        assert "log0: max_bytes" in problems
        assert "runs: max_age" in problems


async def test_a_stream_that_is_missing_is_made_again(nats_url: str, namespace: str) -> None:
    async with opened(nats_url, namespace) as backend:
        await api(backend, f"STREAM.DELETE.{namespace}_mail")
    async with opened(nats_url, namespace) as backend:
        await backend.mail.send("d", "r", "start", b"")
        assert await backend.mail.waiting("d") == 1


async def test_health_tells_what_an_operator_asks(nats_url: str, namespace: str) -> None:
    async with opened(nats_url, namespace) as backend:
        health = await backend.health()
        assert health["version"].startswith("2.")
        assert health["url"] == nats_url
        assert health["rtt_seconds"] > 0
        assert health["cluster_size"] == 1
        assert health["replicas"] == 1
        assert "sync_interval: always" in health["sync_always"]
        assert health["jetstream"]["limits"]["max_streams"] == -1
        assert json.dumps(health)


async def test_health_of_a_dead_server_is_a_problem(namespace: str) -> None:
    with NatsServer() as server:
        async with opened(server.url, namespace) as backend:
            server.kill()
            health = await backend.health()
            assert health["problems"]


async def test_many_open_a_new_namespace_at_once(nats_url: str, namespace: str) -> None:
    backends = [NatsBackend(nats_url, namespace=namespace, partitions=5) for _ in range(8)]
    await asyncio.gather(*(backend.open() for backend in backends))
    assert {backend.namespace.partitions for backend in backends} == {5}
    for backend in backends:
        await backend.close()
