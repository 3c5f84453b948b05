"""Five web frameworks in real processes: worker inside, webhook, and a stop under load."""

import asyncio
import time
from pathlib import Path

import httpx
import pytest

import offbook
from offbook import step, stream, workflow
from support import web_apps
from support.nats import until
from support.web import WebServer, browser_of, signed
from support.web_apps import ALL, FRAMEWORKS, asks, doubled

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


async def start(
    browser: httpx.AsyncClient, server: WebServer, name: str, number: int, run: str
) -> httpx.Response:
    body = {"workflow": f"support.web_apps.{name}", "args": [number], "id": run}
    return await browser.post(f"{server.base}/runs", json=body)


async def address(folder: Path, run: str) -> str:
    """Return the token of a run's webhook, once the run has written its address down."""
    path = folder / f"{run}.url"
    await until(path.exists)
    return path.read_text(encoding="utf-8").rpartition("/")[2]


@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_a_framework(framework: str, nats_url: str, namespace: str, tmp_path: Path) -> None:
    """One process: its pages, a run, a webhook, streams, and at the end a stop under load."""
    server = WebServer(framework, tmp_path, url=nats_url, namespace=namespace)
    async with offbook.connect(nats_url, namespace=namespace) as client:
        async with server, browser_of(server) as browser:
            await check_pages(browser, server)
            await check_a_webhook(browser, server, tmp_path)
            await check_streams(browser, server)
            accepted = await stop_under_load(browser, server, tmp_path)
        log = server.log.read_text(encoding="utf-8")
        assert "Finished server process" in log
        assert "Traceback" not in log
        await client.run("talks").cancel()
        async with offbook.Worker(client, workflows=ALL):
            results = await asyncio.gather(*(client.run(run, doubled).result() for run in accepted))
        assert results == [4 * int(run.rpartition("-")[2]) for run in accepted]


async def check_pages(browser: httpx.AsyncClient, server: WebServer) -> None:
    assert (await browser.get("/hello")).text == "hello"
    health = await browser.get(f"{server.base}/health")
    assert health.json() == {"status": "healthy", "format": 1}
    refused = await browser.get(f"{server.base}/runs/x", headers={"x-key": "wrong"})
    assert refused.status_code == 401
    assert (await start(browser, server, "doubled", 3, "d")).status_code == 201
    result = await browser.get(f"{server.base}/runs/d/result")
    assert result.json() == {"run": "d", "status": "completed", "result": 12}
    for odd in ("%00", "runs/%2e%2e/x", "runs/%ff", "hooks/%C3%A9%2F%2F", "webhook/%E2%98%83"):
        reply = await browser.post(f"{server.base}/{odd}", json={})
        assert reply.status_code in {404, 405, 422}, odd


async def check_a_webhook(browser: httpx.AsyncClient, server: WebServer, folder: Path) -> None:
    assert (await start(browser, server, "asks", 2, "a")).status_code == 201
    path = f"{server.base}/webhook/{await address(folder, 'a')}"
    assert (await browser.post(path, content=b"unsigned")).status_code == 401
    for _ in range(2):
        headers = signed("m1", b"first", time.time())
        reply = await browser.post(path, content=b"first", headers=headers)
        assert (reply.status_code, reply.json()) == (200, {"number": 1, "text": "first"})
    headers = signed("m2", b"second", time.time())
    spelled = f"{path[:-1]}%{ord(path[-1]):02X}"
    reply = await browser.post(spelled, content=b"second", headers=headers)
    assert reply.json() == {"number": 2, "text": "second"}
    result = await browser.get(f"{server.base}/runs/a/result")
    assert result.json()["result"] == ["first", "second"]
    for _ in range(100):
        reply = await browser.post(path, content=b"late")
        assert (reply.status_code, reply.content) == (404, b"")


async def check_streams(browser: httpx.AsyncClient, server: WebServer) -> None:
    assert (await start(browser, server, "talks", 200, "t")).status_code == 201
    listeners = [Listener("t") for _ in range(3)]
    await asyncio.gather(*(listener.listen(server) for listener in listeners))
    assert [listener.numbers for listener in listeners] == [list(range(200))] * 3
    path = f"{server.base}/runs/t/streams/words"
    again = await browser.get(path, headers={"last-event-id": "end"})
    assert again.status_code == 204


async def stop_under_load(browser: httpx.AsyncClient, server: WebServer, folder: Path) -> list[str]:
    """Stop it with open streams, polls and starts; return which runs it had accepted."""
    accepted: list[str] = []
    assert (await start(browser, server, "asks", 1, "waits")).status_code == 201
    await address(folder, "waits")
    assert (await start(browser, server, "talks", 100_000, "talks")).status_code == 201
    listener = Listener("talks")
    listening = asyncio.ensure_future(listener.listen(server))
    await listener.has(1)
    poll = asyncio.ensure_future(browser.get(f"{server.base}/runs/waits/result?wait=60"))
    loads = [
        asyncio.ensure_future(_load(browser, server, f"load{number}", accepted))
        for number in range(5)
    ]
    await until(lambda: len(accepted) >= 50)
    server.ask_to_stop()
    assert await server.gone() in {0, -15}
    assert (await poll).status_code == 202
    await listening
    assert (listener.cuts, listener.ended) == (1, False)
    await asyncio.gather(*loads)
    return accepted


class Listener:
    """Reads a stream as a browser does: comes back with the last id it had."""

    def __init__(self, run: str) -> None:
        self.run = run
        self.numbers: list[int] = []
        self.ended = False
        self.cuts = 0
        self._last: str | None = None

    async def listen(self, server: WebServer) -> None:
        """Read until the end or until the connection breaks."""
        headers = {"last-event-id": self._last} if self._last else {}
        path = f"{server.base}/runs/{self.run}/streams/words"
        try:
            async with (
                browser_of(server) as browser,
                browser.stream("GET", path, headers=headers) as reply,
            ):
                assert reply.headers["content-type"].startswith("text/event-stream")
                async for line in reply.aiter_lines():
                    self._take(line)
        except httpx.TransportError:
            self.cuts += 1
        else:
            assert self.ended, "a polite end that was none"

    async def has(self, count: int) -> None:
        """Return once it has had so many chunks."""
        await until(lambda: len(self.numbers) >= count)

    def _take(self, line: str) -> None:
        name, _, value = line.partition(": ")
        if name == "id":
            self._last = value
            self.ended = value == "end"
        elif name == "data" and not self.ended:
            self.numbers.append(int(value))


async def _load(
    browser: httpx.AsyncClient, server: WebServer, name: str, accepted: list[str]
) -> None:
    """Start runs for as long as the server takes them."""
    number = 0
    while True:
        run = f"{name}-{number}"
        try:
            reply = await start(browser, server, "doubled", number, run)
        except httpx.TransportError:
            return
        if reply.status_code != 201:
            return
        accepted.append(run)
        number += 1


ENOUGH = asyncio.Event()


@step
async def say_until_enough() -> int:
    """Count on a stream; return how far."""
    words, count = stream("words"), 0
    while not ENOUGH.is_set():
        await words.write(count)
        count += 1
        await asyncio.sleep(0.01)
    return count


@workflow
async def talks_until_enough() -> int:
    return await say_until_enough()


async def test_a_stream_goes_on_at_the_next_server(
    nats_url: str, namespace: str, tmp_path: Path
) -> None:
    """A worker elsewhere writes; the web server before the reader dies, and the next one stops."""
    ENOUGH.clear()
    listener = Listener("t")
    async with (
        offbook.connect(nats_url, namespace=namespace) as client,
        offbook.Worker(client, workflows=[talks_until_enough]),
    ):
        run = await client.start(talks_until_enough, id="t")
        for count, how in ((20, WebServer.kill), (60, WebServer.ask_to_stop)):
            async with WebServer("alone-idle", tmp_path, url=nats_url, namespace=namespace) as web:
                listening = asyncio.ensure_future(listener.listen(web))
                await listener.has(count)
                how(web)
                await web.gone()
                await listening
                assert not listener.ended
        async with WebServer("alone-idle", tmp_path, url=nats_url, namespace=namespace) as web:
            listening = asyncio.ensure_future(listener.listen(web))
            await listener.has(len(listener.numbers) + 20)
            ENOUGH.set()
            await listening
        count = await run.result()
    assert (listener.numbers, listener.cuts) == (list(range(count)), 2)


async def test_a_webhook_retried_after_the_server_died_is_delivered_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server dies with the caller held; the retry has the answer, the run one request."""
    monkeypatch.setattr(web_apps, "FOLDER", tmp_path)
    async with offbook.connect(folder=tmp_path / "server") as client:
        run = await client.start(asks, 2, id="a")
        async with offbook.Worker(client, workflows=ALL):
            token = await address(tmp_path, "a")
        headers = signed("m1", b"first", time.time())
        async with WebServer("alone-idle", tmp_path) as server, browser_of(server) as browser:
            # No worker is there: the request is accepted, and its sender held.
            path = f"{server.base}/webhook/{token}"
            before = await client.backend.mail.waiting("default")
            held = asyncio.ensure_future(browser.post(path, content=b"first", headers=headers))
            while await client.backend.mail.waiting("default") == before:
                assert not held.done()
            server.kill()
            with pytest.raises(httpx.TransportError):
                await held
        async with WebServer("alone", tmp_path) as server, browser_of(server) as browser:
            path = f"{server.base}/webhook/{token}"
            for caller, body, number in (("m1", b"first", 1), ("m2", b"second", 2)):
                for _ in range(2):
                    fresh = signed(caller, body, time.time())
                    reply = await browser.post(path, content=body, headers=fresh)
                    assert (reply.status_code, reply.json()["number"]) == (200, number)
        assert await run.result() == ["first", "second"]
        kinds = [event.type async for event in run.events()]
        assert kinds.count("hook_received") == 2
