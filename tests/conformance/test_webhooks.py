"""Webhooks over an edge: what callers are told, and what the workflow gets."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import httpx
import pytest

from offbook import (
    HookRejected,
    InvalidOption,
    Request,
    Response,
    Run,
    current_run,
    hook,
    sleep,
    step,
    webhook,
    workflow,
)
from offbook.adapters.http import Edge
from support.notes import note, noted, notes
from support.worlds import CatalogueEnvironment

PREFIX = "/.well-known/offbook/v1"


@asynccontextmanager
async def browsing(env: CatalogueEnvironment) -> AsyncGenerator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=Edge(env.client))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as browser:
        yield browser


async def told(run: Run[Any], count: int = 1) -> list[str]:
    """Return what the run told of its addresses, once it has told so many."""
    async for event in run.events(follow=True):
        if event.type == "step_completed" and len(notes(run)) >= count:
            return notes(run)
    raise AssertionError("the run has ended")


@step
async def tell(url: str) -> None:
    note(url)


@step
async def answer_for(request: Request[Any], word: str) -> bool:
    return await request.respond(200, json={"word": word}, headers={"X-From": "step"})


@workflow
async def three_modes(who: str) -> list[list[str]]:
    fixed = Response(402, json={"pay": True})
    seen: list[list[str]] = []
    modes: tuple[Any, ...] = (None, fixed, "manual")
    for mode in modes:
        async with webhook(respond_with=mode, methods=("POST", "PUT")) as open_hook:
            assert await open_hook.claim() is None
            await tell(open_hook.url)
            request = await open_hook
            seen.append([request.method, request.url, request.text, request.headers["x-mine"]])
            if mode != "manual":
                continue
            if who == "step":
                assert await answer_for(request, request.text)
            else:
                assert await request.respond(
                    200, json={"word": request.text}, headers={"X-From": "step"}
                )
    return seen


@pytest.mark.parametrize("who", ["step", "workflow"])
async def test_three_reply_modes(env: CatalogueEnvironment, who: str) -> None:
    run = await env.client.start(three_modes, who)
    sent: list[list[str]] = []
    async with browsing(env) as browser:
        for number, method in enumerate(("POST", "PUT", "POST")):
            url = (await told(run, number + 1))[number] + "?n=1"
            reply = await browser.request(
                method, url, content=f"body {number}", headers={"X-Mine": "yes"}
            )
            sent.append([method, f"http://localhost{url}", f"body {number}", "yes"])
            if number == 0:
                assert (reply.status_code, reply.content) == (202, b"")
            elif number == 1:
                assert (reply.status_code, reply.json()) == (402, {"pay": True})
            else:
                assert (reply.status_code, reply.json()) == (200, {"word": "body 2"})
                assert reply.headers["x-from"] == "step"
    assert await run.result() == sent


async def test_unknown_webhook_token(env: CatalogueEnvironment) -> None:
    async with browsing(env) as browser:
        for token in ("never", "x" * 2000, "%00", "a/b"):
            reply = await browser.post(f"{PREFIX}/webhook/{token}", content=b"x")
            assert (reply.status_code, reply.content) == (404, b"")


@workflow
async def one_request() -> str:
    open_hook = webhook()
    await open_hook.claim()
    await tell(open_hook.url)
    return (await open_hook).text


async def test_ended_run_webhook(env: CatalogueEnvironment) -> None:
    run = await env.client.start(one_request)
    (url,) = await told(run)
    async with browsing(env) as browser:
        first = await browser.post(url, content=b"first", headers={"webhook-id": "m1"})
        assert first.status_code == 202
        assert await run.result() == "first"
        for headers in ({}, {"webhook-id": "m2"}):
            late = await browser.post(url, content=b"late", headers=headers)
            assert (late.status_code, late.content) == (404, b"")
        again = await browser.post(url, content=b"first", headers={"webhook-id": "m1"})
        assert (again.status_code, again.content) == (202, b"")
    assert (await env.kinds(run)).count("hook_received") == 1


@workflow
async def never_answers(how: str, seconds: float) -> str:
    open_hook = webhook(respond_with="manual", wait=seconds)
    await open_hook.claim()
    await tell(open_hook.url)
    request = await open_hook
    if how == "sleeps":
        await sleep(seconds * 20)
    return request.text


async def test_manual_reply_missing(env: CatalogueEnvironment) -> None:
    async with browsing(env) as browser:
        run = await env.client.start(never_answers, "ends", 30.0)
        (url,) = await told(run)
        reply = await browser.post(url, content=b"x")
        assert (reply.status_code, reply.json()["code"]) == (502, "no-answer")
        assert await run.result() == "x"
        run = await env.client.start(never_answers, "sleeps", env.seconds(10))
        (url,) = await told(run)
        reply = await browser.post(url, content=b"x")
        assert (reply.status_code, reply.json()["code"]) == (504, "no-answer")
        assert await run.status() == "running"
        await run.cancel()


@workflow
async def plain_hook(token: str) -> str:
    return await hook(str, token=token)


async def test_hook_is_not_public(env: CatalogueEnvironment) -> None:
    run = await env.client.start(plain_hook, "plain")
    await env.wait_for_hook(run)
    async with browsing(env) as browser:
        reply = await browser.post(f"{PREFIX}/webhook/plain", json="outside")
        assert (reply.status_code, reply.content) == (404, b"")
    await env.client.resume("plain", "by code")
    assert await run.result() == "by code"


@step
async def square(number: int) -> int:
    return number * number


@workflow
async def rounds_of_two() -> int:
    total = 0
    for number in range(10):
        total += sum(await asyncio.gather(square(number), square(number + 1)))
        async with webhook() as open_hook:
            assert await open_hook.claim() is None
    return total


async def test_no_self_conflict_of_webhooks(env: CatalogueEnvironment) -> None:
    run = await env.client.start(rounds_of_two)
    assert await run.result() == sum(n * n + (n + 1) * (n + 1) for n in range(10))
    kinds = await env.kinds(run)
    assert kinds.count("hook_created") == 10
    assert "hook_conflict" not in kinds


async def test_health_over_http(env: CatalogueEnvironment) -> None:
    async with browsing(env) as browser:
        reply = await browser.get(f"{PREFIX}/health")
        assert (reply.status_code, reply.json()) == (200, {"status": "healthy", "format": 1})


# Beyond the catalogue


@dataclass
class Order:
    number: int
    goods: list[str]


@workflow
async def typed_body() -> int:
    open_hook = webhook(Order, once=True)
    await open_hook.claim()
    await tell(open_hook.url)
    return (await open_hook).payload.number


async def test_a_body_that_does_not_fit_is_refused_at_the_edge(env: CatalogueEnvironment) -> None:
    run = await env.client.start(typed_body)
    (url,) = await told(run)
    async with browsing(env) as browser:
        for body in (b"{", b"\xff", b'{"number": "x", "goods": []}', b"NaN", b"[" * 100_000):
            reply = await browser.post(url, content=body)
            assert (reply.status_code, reply.json()["code"]) == (422, "hook-rejected"), body[:20]
        reply = await browser.post(url, json={"number": 7, "goods": ["tea"]})
        assert reply.status_code == 202
    assert await run.result() == 7
    kinds = await env.kinds(run)
    assert (kinds.count("hook_received"), kinds.count("hook_rejected")) == (1, 0)


@workflow
async def counts() -> list[str]:
    found: list[str] = []
    async with webhook(respond_with="manual") as open_hook:
        await open_hook.claim()
        await tell(open_hook.url)
        async for request in open_hook:
            found.append(request.id)
            await request.respond(json=len(found))
            if request.text == "last":
                break
    return found


async def test_a_request_that_is_repeated_has_one_event_and_one_answer(
    env: CatalogueEnvironment,
) -> None:
    run = await env.client.start(counts)
    (url,) = await told(run)
    async with browsing(env) as browser:
        for _ in range(3):
            reply = await browser.post(url, content=b"a", headers={"webhook-id": "same"})
            assert (reply.status_code, reply.json()) == (200, 1)
        assert (await browser.post(url, content=b"b")).json() == 2
        assert (await browser.post(url, content=b"b")).json() == 3
        last = await browser.post(url, content=b"last", headers={"webhook-id": "last"})
        assert last.json() == 4
        found = await run.result()
        assert (found[0], found[3], len(set(found))) == ("same", "last", 4)
        for caller, number in (("same", 1), ("last", 4)):
            reply = await browser.post(url, content=b"again", headers={"webhook-id": caller})
            assert (reply.status_code, reply.json()) == (200, number)


@step
async def works_on(request: Request[Any]) -> str:
    run: Any = current_run()
    note(f"working on {request.id}")
    if len(notes(run)) < 3:  # its address, and this
        await asyncio.Event().wait()
    return request.text


@workflow
async def works_first() -> list[str]:
    async with webhook(respond_with="manual") as open_hook:
        await open_hook.claim()
        await tell(open_hook.url)
        request = await open_hook
        text = await works_on(request)
        await request.respond(body=text)
        return [text, (await open_hook).text]


async def test_a_request_that_is_repeated_over_a_crash_is_had_once(
    env: CatalogueEnvironment,
) -> None:
    run = await env.client.start(works_first)
    (url,) = await told(run)
    async with browsing(env) as browser:
        sending = [
            asyncio.create_task(browser.post(url, content=b"a", headers={"webhook-id": "same"}))
            for _ in range(2)
        ]
        await noted(run, "working on same")
        await env.crash(env.workers[0])
        sending[0].cancel()
        await env.add_worker()
        retry = await browser.post(url, content=b"a", headers={"webhook-id": "same"})
        replies = [retry, await sending[1]]
        assert [(reply.status_code, reply.text) for reply in replies] == [(200, "a")] * 2
        await browser.post(url, content=b"b", headers={"webhook-id": "other"})
    assert await run.result() == ["a", "b"]
    assert (await env.kinds(run)).count("hook_received") == 2


@workflow
async def answers_twice() -> list[bool]:
    open_hook = webhook(respond_with="manual")
    await open_hook.claim()
    await tell(open_hook.url)
    request = await open_hook
    return [
        await request.respond(body="first"),
        await answer_for(request, "second"),
        await request.respond(body="first"),
    ]


async def test_the_first_answer_counts(env: CatalogueEnvironment) -> None:
    run = await env.client.start(answers_twice)
    (url,) = await told(run)
    async with browsing(env) as browser:
        assert (await browser.post(url)).text == "first"
    assert await run.result() == [True, False, True]


@workflow
async def large_body() -> int:
    open_hook = webhook(bytes, respond_with="manual")
    await open_hook.claim()
    await tell(open_hook.url)
    request = await open_hook
    await request.respond(body=request.payload[::-1])
    return len(request.payload)


async def test_large_bodies_go_both_ways(env: CatalogueEnvironment) -> None:
    body = bytes(range(256)) * 3000
    run = await env.client.start(large_body)
    (url,) = await told(run)
    async with browsing(env) as browser:
        assert (await browser.post(url, content=body)).content == body[::-1]
    assert await run.result() == len(body)


@workflow
async def fixed_options(which: str) -> str:
    tries: dict[str, Any] = {
        "methods": lambda: webhook(methods=()),
        "text": lambda: webhook(methods="POST"),
        "mode": lambda: webhook(respond_with=cast("Any", "later")),
        "base": lambda: webhook(base="shop.example"),
        "status": lambda: Response(99),
        "header": lambda: Response(200, {"x": "a\r\nb: c"}),
        "length": lambda: Response(200, {"content-length": "1"}),
        "empty": lambda: Response(204, body=b"x"),
    }
    try:
        tries[which]()
    except InvalidOption as error:
        return error.field
    return ""


async def test_options_that_cannot_be_are_refused(env: CatalogueEnvironment) -> None:
    fields = {
        "methods": "methods", "text": "methods", "mode": "respond_with", "base": "base",
        "status": "status", "header": "headers['x']", "length": "headers", "empty": "body",
    }  # fmt: skip
    for which, field in fields.items():
        run = await env.client.start(fixed_options, which)
        assert await run.result() == field


@workflow
async def addresses() -> list[str]:
    return [
        webhook(base="https://shop.example").url.rpartition("/")[0],
        webhook(base="https://shop.example/api/").url.rpartition("/")[0],
        webhook().path.rpartition("/")[0],
        str(len(webhook().token)),
        current_run().id,
    ]


async def test_addresses_are_below_their_base_and_nobody_guesses_them(
    env: CatalogueEnvironment,
) -> None:
    run = await env.client.start(addresses)
    found = await run.result()
    assert found[:4] == [
        f"https://shop.example{PREFIX}/webhook",
        "https://shop.example/api/webhook",
        f"{PREFIX}/webhook",
        "43",
    ]


async def test_payloads_by_code_do_not_reach_a_webhook(env: CatalogueEnvironment) -> None:
    run = await env.client.start(one_request)
    (url,) = await told(run)
    with pytest.raises(HookRejected):
        await env.client.resume(url.rpartition("/")[2], "by code")
    async with browsing(env) as browser:
        await browser.post(url, content=b"by request")
    assert await run.result() == "by request"


async def test_the_token_is_in_no_event_that_is_shown(env: CatalogueEnvironment) -> None:
    run = await env.client.start(one_request)
    (url,) = await told(run)
    token = url.rpartition("/")[2]
    async with browsing(env) as browser:
        headers = {"cookie": "secret", "authorization": "secret"}
        await browser.post(url, content=b"x", headers=headers)
    await run.result()
    events = [event async for event in run.events() if event.type.startswith("hook_")]
    assert len(events) >= 3
    assert all(token not in repr(event) and "secret" not in repr(event) for event in events)
