"""The routes of the edge: who may use them, and what they answer."""

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from offbook import InvalidOption, hook, step, workflow
from offbook.adapters.http import Edge, Incoming
from offbook.testing import Environment
from support.asgi import Exchange, Reply, ask, scope_of

PREFIX = "/.well-known/offbook/v1"
pytestmark = pytest.mark.virtual


@dataclass
class Order:
    number: int
    goods: list[str]


@step
async def price(order: Order) -> int:
    return order.number * len(order.goods)


@workflow
async def buy(order: Order, *, rush: bool = False) -> dict[str, Any]:
    return {"price": await price(order), "rush": rush, "type": type(order).__name__}


@workflow
async def fails() -> None:
    raise ValueError("no luck")


@workflow
async def waits(token: str) -> int:
    return await hook(int, token=token)


@workflow
async def hidden() -> None:
    return None


def edge_of(env: Environment, **options: Any) -> Edge:  # noqa: ANN401 - of Edge
    options.setdefault("start", [buy, fails, waits])
    return Edge(env.client, **options)


async def start(edge: Edge, name: str, **fields: Any) -> Reply:  # noqa: ANN401 - of the body
    workflow_ = f"{__name__}.{name}"
    headers = fields.pop("headers", {})
    body = {"workflow": workflow_, **fields}
    return await ask(edge, "POST", f"{PREFIX}/runs", body=body, headers=headers)


async def get(edge: Edge, path: str, **changes: Any) -> Reply:  # noqa: ANN401 - of a scope
    return await ask(edge, "GET", f"{PREFIX}/{path}", **changes)


async def test_a_run_is_started_and_its_result_waited_for() -> None:
    async with Environment() as env:
        edge = edge_of(env)
        begun = await start(
            edge, "buy", args=[{"number": 3, "goods": ["a", "b"]}], kwargs={"rush": True}, id="o-1"
        )
        assert (begun.status, begun.json()) == (201, {"run": "o-1"})
        assert begun.headers["location"] == "runs/o-1"
        found = await get(edge, "runs/o-1/result?wait=30")
        result = {"price": 6, "rush": True, "type": "Order"}
        assert found.json() == {"run": "o-1", "status": "completed", "result": result}
        assert (await get(edge, "runs/o-1")).json() == {"run": "o-1", "status": "completed"}


async def test_starting_again_with_the_same_key_or_id_is_the_same_run() -> None:
    async with Environment() as env:
        edge = edge_of(env)
        order: dict[str, Any] = {"number": 1, "goods": []}
        keyed = [
            await start(edge, "buy", args=[order], headers={"idempotency-key": "k"})
            for _ in range(2)
        ]
        assert keyed[0].json() == keyed[1].json()
        first = await start(edge, "buy", args=[order], id="same")
        assert (await start(edge, "buy", args=[order], id="same")).json() == first.json()
        other = await start(edge, "buy", args=[{"number": 2, "goods": []}], id="same")
        assert (other.status, other.code) == (409, "run-conflict")
        assert "Idempotency-Key" in other.json()["detail"], "a cure that there is by HTTP"


BAD_STARTS: dict[str, tuple[dict[str, Any], int, str]] = {
    "hidden": ({"workflow": f"{__name__}.hidden"}, 404, "not-startable"),
    "nothing": ({}, 404, "not-startable"),
    "type": ({"args": [{"number": "x", "goods": []}]}, 422, "payload-mismatch"),
    "missing": ({"args": []}, 422, "invalid-arguments"),
    "too many": ({"args": [1, 2, 3]}, 422, "invalid-arguments"),
    "no list": ({"args": {"0": 1}}, 422, "bad-field"),
    "id": ({"args": [{"number": 1, "goods": []}], "id": "a b"}, 422, "invalid-name"),
    "unknown": ({"argz": []}, 422, "unknown-field"),
    "attributes": (
        {"args": [{"number": 1, "goods": []}], "attributes": {"a": []}}, 422, "invalid-attributes",
    ),
}  # fmt: skip


@pytest.mark.parametrize("which", list(BAD_STARTS))
async def test_a_start_that_cannot_be_is_refused_and_starts_nothing(which: str) -> None:
    fields, status, code = BAD_STARTS[which]
    async with Environment() as env:
        name = f"{__name__}.buy"
        body = fields if which in {"hidden", "nothing"} else {"workflow": name, **fields}
        reply = await ask(edge_of(env), "POST", f"{PREFIX}/runs", body=body)
        assert (reply.status, reply.code) == (status, code)
        assert reply.headers["content-type"] == "application/problem+json"
        assert [summary async for summary in env.client.runs()] == []


async def test_nothing_may_be_started_unless_it_is_listed() -> None:
    async with Environment() as env:
        reply = await start(edge_of(env, start=()), "buy", args=[])
        assert (reply.status, reply.code) == (404, "not-startable")


async def test_a_workflow_that_may_not_be_started_is_named() -> None:
    async with Environment() as env:
        reply = await start(edge_of(env), "hidden", args=[])
        told = f"workflow '{__name__}.hidden' is not one of "
        assert reply.json()["detail"].startswith(told)
        nameless = await ask(edge_of(env), "POST", f"{PREFIX}/runs", body={"workflow": [1]})
        assert nameless.json()["detail"].startswith("'workflow' must name one of ")


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("text/plain", b"{}", 415),
        ("", b"{}", 415),
        ("application/json; charset=utf-8", b"{", 400),
        ("application/json", b"\xff", 400),
        ("application/json", b"[1]", 422),
        ("application/json", b"[" * 200_000, 400),
        ("application/json", b'{"a": Infinity}', 400),
    ],
)
async def test_a_body_that_is_no_json_object_is_refused(
    kind: str, body: bytes, status: int
) -> None:
    async with Environment(workers=0) as env:
        headers = {"content-type": kind} if kind else {}
        reply = await ask(edge_of(env), "POST", f"{PREFIX}/runs", body=body, headers=headers)
        assert reply.status == status


async def test_a_result_that_has_not_come_is_pending_and_a_failure_says_so() -> None:
    async with Environment() as env:
        edge = edge_of(env)
        await start(edge, "waits", args=["t"], id="w")
        pending = await get(edge, "runs/w/result?wait=2")
        assert (pending.status, pending.json()) == (202, {"run": "w", "status": "running"})
        await start(edge, "fails", id="f")
        failed = await get(edge, "runs/f/result")
        assert (failed.status, failed.code) == (409, "run-failed")
        assert "no luck" in failed.json()["detail"]


async def test_a_cancel_needs_no_body_unless_a_page_of_a_site_sends_it() -> None:
    async with Environment() as env:
        edge = edge_of(env, authenticate=_everyone)
        await start(edge, "waits", args=["t"], id="w")
        path = f"{PREFIX}/runs/w/cancel"
        for headers, body in (({"origin": "https://evil.example"}, b""), ({}, b"reason=none")):
            refused = await ask(edge, "POST", path, headers=headers, body=body)
            assert (refused.status, refused.code) == (415, "not-json")
        assert (await get(edge, "runs/w")).json()["status"] in {"pending", "running"}
        assert (await ask(edge, "POST", path)).status == 202
        assert (await get(edge, "runs/w/result")).code == "run-cancelled"


async def _everyone(_incoming: Incoming) -> bool:
    return True


async def test_a_cancelled_run_says_so() -> None:
    async with Environment() as env:
        edge = edge_of(env)
        await start(edge, "waits", args=["t"], id="w")
        reply = await ask(edge, "POST", f"{PREFIX}/runs/w/cancel", body={"reason": "enough"})
        assert reply.status == 202
        ended = await get(edge, "runs/w/result")
        assert (ended.status, ended.code) == (409, "run-cancelled")
        assert "enough" in ended.json()["detail"]


async def test_a_hook_is_resumed_once_for_each_id() -> None:
    async with Environment() as env:
        edge = edge_of(env)
        begun = await start(edge, "waits", args=["a/b:1"], id="w")
        await env.wait_for_hook(env.client.run("w"))
        path = f"{PREFIX}/hooks/a/b:1"
        json = {"content-type": "application/json"}
        bad = await ask(edge, "POST", path, body=b'"x"', headers=json)
        assert (bad.status, bad.code) == (422, "hook-rejected")
        for _ in range(2):
            sent = await ask(edge, "POST", path, body=b"7", headers=json | {"webhook-id": "m"})
            assert (sent.status, sent.json()) == (202, begun.json())
        assert (await get(edge, "runs/w/result")).json()["result"] == 7
        late = await ask(edge, "POST", path, body=b"8", headers=json)
        assert (late.status, late.code) == (404, "hook-not-found")


async def test_what_is_not_there_is_not_found() -> None:
    async with Environment(workers=0) as env:
        edge = edge_of(env)
        for path in ("runs/none", "runs/none/result", "runs/none/streams/default"):
            reply = await get(edge, path)
            assert (reply.status, reply.code) == (404, "run-not-found"), path
        for path in ("", "nothing", "runs/none/more", "health/x"):
            reply = await get(edge, path)
            assert (reply.status, reply.code) == (404, "not-found"), path


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "health", "GET"),
        ("GET", "runs", "POST"),
        ("DELETE", "runs/x", "GET"),
        ("POST", "runs/x/result", "GET"),
        ("GET", "runs/x/cancel", "POST"),
        ("GET", "hooks/x", "POST"),
    ],
)
async def test_a_wrong_method_is_told_which_are_right(method: str, path: str, allowed: str) -> None:
    async with Environment(workers=0) as env:
        reply = await ask(edge_of(env), method, f"{PREFIX}/{path}")
        assert (reply.status, reply.headers["allow"]) == (405, allowed)


# Who may


FOREIGN: dict[str, dict[str, Any]] = {
    "address": {"client": ("10.1.2.3", 1)},
    "no address": {"client": None},
    "forwarded": {"headers": {"x-forwarded-for": "127.0.0.1"}},
    "name": {"headers": {"host": "evil.example"}},
    "page": {"headers": {"origin": "https://evil.example"}},
    "sandbox": {"headers": {"origin": "null"}},
}


@pytest.mark.parametrize("how", list(FOREIGN))
async def test_without_authentication_only_this_machine_may(how: str) -> None:
    async with Environment(workers=0) as env:
        edge = edge_of(env)
        reply = await get(edge, "runs/none", **FOREIGN[how])
        assert (reply.status, reply.code) == (403, "forbidden")
        assert "authenticate" in reply.json()["detail"]
        assert (await get(edge, "health", **FOREIGN[how])).status == 200
        unknown = await ask(edge, "POST", f"{PREFIX}/webhook/x", **FOREIGN[how])
        assert (unknown.status, unknown.body) == (404, b"")


@pytest.mark.parametrize("client", ["127.0.0.1", "127.8.8.8", "::1"])
async def test_this_machine_may(client: str) -> None:
    async with Environment(workers=0) as env:
        reply = await get(edge_of(env), "runs/none", client=(client, 1))
        assert reply.status == 404


async def test_the_users_authentication_decides() -> None:
    async def by_key(incoming: Incoming) -> object:
        if incoming.header("x-key") == "broken":
            raise ConnectionError("the directory is away")
        return incoming.header("x-key") == "right"

    async with Environment(workers=0) as env:
        edge = edge_of(env, authenticate=by_key)
        far = ("10.1.2.3", 1)
        for key, status in (("right", 404), ("wrong", 401), ("broken", 500)):
            reply = await get(edge, "runs/none", client=far, headers={"x-key": key})
            assert reply.status == status
            assert "directory" not in reply.body.decode()
        assert (await get(edge, "runs/none")).status == 401
        assert (await get(edge, "health", client=far)).status == 200


# Where it is


@pytest.mark.parametrize(
    ("root", "path", "found"),
    [
        ("", f"{PREFIX}/health", 200),
        ("", "/health", 404),
        ("", f"{PREFIX}x/health", 404),
        ("/api", f"/api{PREFIX}/health", 200),
        ("/api", f"{PREFIX}/health", 200),
        ("/api/", f"/api{PREFIX}/health", 200),
        ("/", f"{PREFIX}/health", 200),
        (PREFIX, f"{PREFIX}/health", 200),
        ("/inside", "/inside/health", 200),
        ("/in", "/inside/health", 404),
    ],
)
async def test_it_is_found_wherever_it_is_mounted(root: str, path: str, found: int) -> None:
    async with Environment(workers=0) as env:
        reply = await ask(edge_of(env), "GET", path, root_path=root)
        assert reply.status == found


async def test_a_prefix_of_its_own() -> None:
    async with Environment(workers=0) as env:
        edge = edge_of(env, prefix="/durable")
        assert (await ask(edge, "GET", "/durable/health")).status == 200
        assert (await get(edge, "health")).status == 404
        for prefix in ("durable", "/durable/", "/"):
            with pytest.raises(InvalidOption):
                edge_of(env, prefix=prefix)


async def test_options_that_cannot_be_are_refused() -> None:
    async with Environment(workers=0) as env:
        for options in ({"start": ["buy"]}, {"wrong_tokens": 0}, {"webhook_secrets": {"a": ""}}):
            with pytest.raises(InvalidOption):
                edge_of(env, **options)


# When things break


async def test_a_lost_server_is_unhealthy_and_unavailable() -> None:
    async with Environment() as env:
        edge = edge_of(env)
        await start(edge, "waits", args=["t"], id="w")
        await env.wait_for_hook(env.client.run("w"))
        env.world.stop()
        assert (await get(edge, "health")).json()["status"] == "unhealthy"
        reply = await get(edge, "runs/w")
        assert (reply.status, reply.code) == (503, "server-unavailable")
        assert reply.headers["retry-after"] == "1"
        env.world.start()


async def test_a_caller_that_leaves_a_long_poll_leaves_nothing_behind() -> None:
    async with Environment() as env:
        edge = edge_of(env)
        await start(edge, "waits", args=["t"], id="w")
        before = len(asyncio.all_tasks())
        exchange = Exchange()
        scope = scope_of("GET", f"{PREFIX}/runs/w/result")
        polling = asyncio.ensure_future(edge(scope, exchange.receive, exchange.send))
        await env.wait_for_hook(env.client.run("w"))
        exchange.leave()
        await polling
        assert exchange.reply.status == 0
        assert len(asyncio.all_tasks()) <= before


async def test_long_polls_end_when_the_process_is_about_to_go() -> None:
    async with Environment() as env:
        edge = edge_of(env)
        await start(edge, "waits", args=["t"], id="w")
        polling = asyncio.ensure_future(get(edge, "runs/w/result?wait=60"))
        await env.wait_for_hook(env.client.run("w"))
        began = asyncio.get_running_loop().time()
        await edge.aclose()
        assert (await polling).status == 202
        assert asyncio.get_running_loop().time() - began < 1
        assert (await get(edge, "health")).status == 503
