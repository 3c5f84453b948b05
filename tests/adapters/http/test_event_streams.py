"""Output streams over HTTP: each chunk once, to the end, from any place."""

import asyncio
import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from offbook import Retry, Settings, current_step, hook, step, stream, workflow
from offbook.adapters.http import Edge
from offbook.testing import Environment
from support.asgi import Exchange, Reply, ask, scope_of

PREFIX = "/.well-known/offbook/v1"
pytestmark = pytest.mark.virtual


@step
async def say(count: int) -> None:
    async with stream("words") as words:
        for number in range(count):
            await words.write({"n": number, "text": "ä\nb"})


@workflow
async def talks(count: int) -> str:
    await say(count)
    await hook(str, token="go on")
    await stream("words").write(b"\xff")
    return "done"


@step(retry=Retry(attempts=2, first=1.0))
async def stammer() -> None:
    context = current_step()
    async with stream() as words:
        await words.write(f"attempt {context.attempt}")
        await words.flush()
        if context.attempt == 1:
            await current_step().client.run(context.run.id).stream("ready").write(1)
            await asyncio.sleep(5)
            raise ValueError("again")


@workflow
async def stammers() -> None:
    await stammer()


@workflow
async def breaks_off() -> None:
    words = stream()
    await words.write("almost")
    await words.close(error=ValueError("no voice"))
    await hook(str, token="never")


@dataclass(frozen=True)
class Heard:
    event: str
    data: Any
    id: str | None


def heard(reply: Reply) -> list[Heard]:
    """Return the events of a reply."""
    found: list[Heard] = []
    for block in reply.body.decode().split("\n\n"):
        fields: dict[str, str] = {}
        for line in block.split("\n"):
            name, _, value = line.partition(": ")
            fields[name] = fields[name] + "\n" + value if name in fields else value
        if "data" in fields:
            event = fields.get("event", "message")
            found.append(Heard(event, json.loads(fields["data"]), fields.get("id")))
    return found


class Reading:
    """One reader that may leave and come back."""

    def __init__(self, edge: Edge, path: str, **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.exchange = Exchange()
        scope = scope_of("GET", f"{PREFIX}/{path}", headers=named)
        self.task = asyncio.ensure_future(edge(scope, self.exchange.receive, self.exchange.send))

    async def has(self, count: int) -> list[Heard]:
        return heard(await self.exchange.until(lambda reply: len(heard(reply)) >= count))

    async def leave(self) -> None:
        self.exchange.leave()
        await self.task


async def test_a_stream_is_read_live_and_resumed_without_gap_or_repeat() -> None:
    async with Environment() as env:
        edge = Edge(env.client)
        run = await env.client.start(talks, 3, id="t")
        first = Reading(edge, "runs/t/streams/words")
        events = await first.has(3)
        await first.leave()
        assert not first.exchange.reply.whole
        assert [event.data["n"] for event in events] == [0, 1, 2]
        again = Reading(edge, "runs/t/streams/words?start=0", last_event_id=events[1].id or "")
        assert [event.data for event in await again.has(1)] == [{"n": 2, "text": "ä\nb"}]
        await env.wait_for_hook(run)
        await env.client.resume("go on", "!")
        await again.task
        rest = heard(again.exchange.reply)
        assert [(e.event, e.data) for e in rest[1:]] == [("message", "_w=="), ("end", {})]
        assert again.exchange.reply.whole


async def test_where_to_begin_may_be_said() -> None:
    async with Environment() as env:
        edge = Edge(env.client)
        run = await env.client.start(talks, 3, id="t", resume=("go on", "!"))
        await run.result()
        for start, count in (("", 4), ("?start=0", 4), ("?start=2", 2), ("?start=-1", 1)):
            reply = await ask(edge, "GET", f"{PREFIX}/runs/t/streams/words{start}")
            assert len(heard(reply)) == count + 1, start
        for wrong in ("x", "1.2", "1e3", "0x1", "٣"):
            headers = {"last-event-id": wrong.encode("ascii", "replace").decode()}
            reply = await ask(edge, "GET", f"{PREFIX}/runs/t/streams/words", headers=headers)
            assert (reply.status, reply.code) == (422, "invalid-option")


async def test_a_reader_that_comes_back_after_the_end_is_told_to_stay_away() -> None:
    async with Environment() as env:
        edge = Edge(env.client)
        await (await env.client.start(talks, 1, id="t", resume=("go on", "!"))).result()
        path = f"{PREFIX}/runs/t/streams/words"
        end = heard(await ask(edge, "GET", path))[-1]
        assert end == Heard("end", {}, "end")
        reply = await ask(edge, "GET", path, headers={"last-event-id": "end"})
        assert (reply.status, reply.body) == (204, b"")


async def test_an_attempt_that_is_withdrawn_is_told() -> None:
    async with Environment() as env:
        edge = Edge(env.client)
        await env.client.start(stammers, id="s")
        async for _ in env.client.run("s").stream("ready"):
            break
        reading = Reading(edge, "runs/s/streams/default")
        assert (await reading.has(1))[0].data == "attempt 1"
        await reading.task
        told = [(event.event, event.data) for event in heard(reading.exchange.reply)]
        assert told == [
            ("message", "attempt 1"),
            ("reset", {"index": 0, "indices": [0]}),
            ("message", "attempt 2"),
            ("end", {}),
        ]


async def test_an_error_at_the_end_is_told() -> None:
    async with Environment() as env:
        edge = Edge(env.client)
        await env.client.start(breaks_off, id="b")
        reply = await ask(edge, "GET", f"{PREFIX}/runs/b/streams/default")
        events = heard(reply)
        assert [event.event for event in events] == ["message", "failed"]
        assert events[1].data["code"] == "stream-failed"
        assert "no voice" in events[1].data["detail"]
        assert reply.whole


async def test_a_run_that_is_gone_has_no_stream() -> None:
    settings = Settings(gc_interval=1.0, last_look=0.0)
    async with Environment(settings=settings) as env:
        edge = Edge(env.client)
        run = await env.client.start(
            talks, 1, id="t", resume=("go on", "!"), retention=timedelta(0)
        )
        await run.result()
        await asyncio.sleep(5)
        reply = await ask(edge, "GET", f"{PREFIX}/runs/t/streams/words")
        assert reply.code == "run-expired"
        reply = await ask(edge, "GET", f"{PREFIX}/runs/t/streams/a.b")
        assert (reply.status, reply.code) == (422, "invalid-name")


async def test_open_streams_are_cut_when_the_process_is_about_to_go() -> None:
    async with Environment() as env:
        edge = Edge(env.client)
        await env.client.start(talks, 2, id="t")
        reading = Reading(edge, "runs/t/streams/words")
        await reading.has(2)
        await edge.aclose()
        await reading.task
        assert not reading.exchange.reply.whole


async def test_a_stream_outlives_a_restart_of_the_server() -> None:
    async with Environment() as env:
        edge = Edge(env.client)
        run = await env.client.start(talks, 2, id="t")
        await env.wait_for_hook(run)
        reading = Reading(edge, "runs/t/streams/words")
        await reading.has(2)
        env.world.restart()
        await env.client.resume("go on", "!")
        await reading.task
        assert [event.event for event in heard(reading.exchange.reply)] == [
            *["message"] * 3, "end",
        ]  # fmt: skip
