"""Output streams of runs: the lines of the catalogue."""

import asyncio
import json
from typing import Any

import pytest

import offbook
from offbook import (
    InvalidOption,
    Run,
    RunNotFound,
    Stream,
    StreamClosed,
    current_step,
    hook,
    step,
    stream,
    workflow,
)
from support.hearing import close_gates, read
from support.worlds import CatalogueEnvironment

TEXTS = ["Grüße, Łódź", "漢字かな交じり", "👩‍👩‍👧‍👦 🏳️‍🌈", "مرحبا بالعالم", "a\x00b\u2028c"]


@pytest.fixture(autouse=True)
def closed_gates() -> None:
    close_gates()


@step
async def ten_lines(lines: Stream[str], pause: float) -> None:
    for n in range(10):
        await lines.write(f"line {n}")
        await asyncio.sleep(pause)
    await lines.close()


@workflow
async def returns_a_stream(pause: float) -> Stream[str]:
    lines = stream("lines", str)
    await ten_lines(lines, pause)
    return lines


async def test_returned_stream_is_readable(env: CatalogueEnvironment) -> None:
    run = await env.client.start(returns_a_stream, env.seconds(1))
    lines = await run.result()
    assert (lines.run, lines.name) == (run.id, "lines")
    assert await read(lines) == [f"line {n}" for n in range(10)]


@step
async def write_two(name: str | None, first: object, second: object) -> None:
    async with stream(name) as out:
        await out.write(first)
        await out.write(second)
        await out.close()


@workflow
async def writes_two() -> str:
    await write_two(None, b"\x00\xff", {"a": [1, None]})
    await write_two("named", b"\x00\xff", {"a": [1, None]})
    return "done"


TWO = [b"\x00\xff", {"a": [1, None]}]


async def test_read_from_start(env: CatalogueEnvironment) -> None:
    run = await env.client.start(writes_two)
    assert await read(run.stream()) == TWO
    assert await read(run.stream("named", start=0)) == TWO
    assert await run.result() == "done"
    assert await run.streams() == ["default", "named"]


async def test_read_from_positive_index(env: CatalogueEnvironment) -> None:
    run = await env.client.start(writes_two)
    assert await read(run.stream(start=1)) == TWO[1:], "live"
    await run.result()
    for follow in (True, False):
        assert await read(run.stream(start=1, follow=follow)) == TWO[1:]
        assert await read(run.stream(start=2, follow=follow)) == []
        assert await read(run.stream(start=99, follow=follow)) == []


async def test_read_from_negative_index(env: CatalogueEnvironment) -> None:
    run = await env.client.start(writes_two)
    await run.result()
    assert await read(run.stream(start=-1)) == TWO[1:]
    assert await read(run.stream("named", start=-2)) == TWO
    assert await read(run.stream("named", start=-99)) == TWO, "from the first on"


async def test_tail_index_after_two_chunks(env: CatalogueEnvironment) -> None:
    run = await env.client.start(writes_two)
    await run.result()
    assert await run.stream().tail() == 1


async def test_tail_index_of_unwritten_stream(env: CatalogueEnvironment) -> None:
    run = await env.client.start(writes_two)
    assert await run.stream("other").tail() == -1
    await run.result()
    assert await run.stream("other").tail() == -1
    assert await read(run.stream("other")) == []
    assert await run.streams() == ["default", "named"]


@workflow
async def counts(upto: int) -> int:
    for n in range(upto):
        await stream().write(n)
    return upto


async def test_pages_equal_live_read(env: CatalogueEnvironment) -> None:
    run = await env.client.start(counts, 5)
    live = await read(run.stream())
    await run.result()
    found: list[Any] = []
    cursor: str | None = None
    pages = 0
    while True:
        page = await run.stream().page(cursor, limit=1)
        found += page.chunks
        cursor, pages = page.cursor, pages + 1
        if page.done:
            break
        assert len(page.chunks) == 1
    assert [chunk.value for chunk in found] == live == list(range(5))
    assert [chunk.index for chunk in found] == list(range(5))
    assert pages in {5, 6}
    everything = await run.stream().page()
    assert (everything.chunks, everything.done) == (found, True)
    with pytest.raises(InvalidOption):
        await run.stream().page(limit=0)


@step
async def writes_in_order() -> None:
    first, second = stream(), stream("named")
    for n in range(20):
        await first.write(n)
        await second.write(-n)
    await first.close()
    await second.close()


@workflow
async def one_step_two_streams() -> None:
    await writes_in_order()


async def test_writer_opened_in_step(env: CatalogueEnvironment) -> None:
    run = await env.client.start(one_step_two_streams)
    first, second = await asyncio.gather(read(run.stream()), read(run.stream("named")))
    assert first == list(range(20))
    assert second == [-n for n in range(20)]


@workflow
async def says_texts() -> None:
    out = stream(type=bytes)
    for text in TEXTS:
        await out.write(text.encode())
    await out.write(json.dumps(TEXTS, ensure_ascii=False).encode())
    await stream("text", str).write_many(TEXTS)


async def test_multibyte_bytes_exact(env: CatalogueEnvironment) -> None:
    run = await env.client.start(says_texts)
    found = await read(run.stream(type=bytes))
    assert [data.decode() for data in found[:-1]] == TEXTS
    assert json.loads(found[-1]) == TEXTS
    assert await read(run.stream("text", str)) == TEXTS


@step
async def write_one(out: Stream[bytes], data: bytes, *, close: bool) -> None:
    await out.write(data)
    if close:
        await out.close()


@workflow
async def echo(out: Stream[bytes], data: bytes) -> None:
    await write_one(out, data, close=True)


@workflow
async def forwards_from_body(data: bytes) -> None:
    child = await offbook.start(echo, stream(), data)
    await child.result()


@step
async def lend(data: bytes) -> str:
    client: offbook.Client = current_step().client
    child = await client.start(echo, stream(), data)
    await child.result()
    return child.id


@workflow
async def forwards_from_step(data: bytes) -> str:
    return await lend(data)


@pytest.mark.parametrize("text", TEXTS)
async def test_writer_forwarded_from_workflow_to_child(
    env: CatalogueEnvironment, text: str
) -> None:
    run = await env.client.start(forwards_from_body, text.encode())
    assert await read(run.stream(type=bytes)) == [text.encode()]
    await run.result()


async def test_writer_forwarded_from_step_to_child(env: CatalogueEnvironment) -> None:
    data = TEXTS[0].encode()
    run = await env.client.start(forwards_from_step, data)
    assert await read(run.stream(type=bytes)) == [data]
    child: Run[Any] = env.client.run(await run.result())
    assert await child.streams() == [], "it wrote to its parent's"


@workflow
async def says_between_waits() -> str:
    out = stream("log")
    await out.write("one")
    await hook(str, token="between")
    await out.write_many(["two", "three"])
    await offbook.sleep(1)
    await out.write("four")
    await out.close()
    with pytest.raises(StreamClosed):
        await out.write("five")
    return "done"


async def test_workflow_body_write_is_recorded_once(env: CatalogueEnvironment) -> None:
    run = await env.client.start(says_between_waits)
    await env.wait_for_hook(run)
    await env.replace_workers()
    await env.client.resume("between", "go")
    assert await run.result() == "done"
    await env.replace_workers()
    for view in ("effective", "attempts", "raw"):
        assert await read(run.stream("log", view=view)) == ["one", "two", "three", "four"]
    events = [event async for event in run.events() if event.type.startswith("stream")]
    assert [e.type for e in events] == [*["stream_written"] * 3, "stream_closed"]
    assert [e.data["items"] for e in events[:3]] == [["one"], ["two", "three"], ["four"]]


@step
async def many_chunks(count: int) -> int:
    out = stream()
    for n in range(count):
        await out.write(n)
    return count


@workflow
async def many_then_wait(count: int) -> None:
    await many_chunks(count)
    await hook(str, token="after")


async def test_step_end_implies_chunks_durable(env: CatalogueEnvironment) -> None:
    run = await env.client.start(many_then_wait, 2_500)
    await env.wait_for(run, "step_completed")
    assert await read(run.stream(follow=False)) == list(range(2_500))
    assert await run.stream().tail() == 2_499
    await env.wait_for_hook(run)
    await env.client.resume("after", "x")
    await run.result()


@workflow
async def waits_for(token: str) -> str:
    return await hook(str, token=token)


@step
async def tell_other(other: str, text: str) -> None:
    await current_step().client.run(other).stream("log").write(text)


@workflow
async def writes_to_other(other: Run[Any], text: str) -> str:
    try:
        await tell_other(other.id, text)
    except RunNotFound:
        return "unknown"
    return "told"


async def test_write_to_other_run(env: CatalogueEnvironment) -> None:
    target = await env.client.start(waits_for, "t")
    log = env.client.run(target.id).stream("log")
    await log.write("from the client")
    for n in range(3):
        told = await env.client.start(writes_to_other, target, f"from run {n}")
        assert await told.result() == "told"
    await log.write_many(["two", "more"])
    await env.wait_for_hook(target)
    await env.client.resume("t", "x")
    await target.result()
    right = ["from the client", "from run 0", "from run 1", "from run 2", "two", "more"]
    assert await read(log) == right
    nobody: Run[Any] = env.client.run("nobody")
    with pytest.raises(RunNotFound):
        await nobody.stream("log").write("x")
    told = await env.client.start(writes_to_other, nobody, "x")
    assert await told.result() == "unknown"
    for reading in (read(nobody.stream()), nobody.stream().tail(), nobody.streams()):
        with pytest.raises(RunNotFound):
            await reading


async def test_a_stream_says_whether_more_can_come(env: CatalogueEnvironment) -> None:
    run = await env.client.start(waits_for, "w")
    log, other = run.stream("log"), run.stream("other")
    assert not await log.ended()
    await log.write("x")
    assert not await log.ended()
    await log.close()
    assert (await log.ended(), await other.ended()) == (True, False)
    await env.wait_for_hook(run)
    await env.client.resume("w", "x")
    await run.result()
    assert await read(other) == []
    assert await other.ended()
    nobody: Run[Any] = env.client.run("nobody")
    with pytest.raises(RunNotFound):
        await nobody.stream().ended()


async def test_run_end_closes_streams(env: CatalogueEnvironment) -> None:
    run = await env.client.start(waits_for, "e")
    await run.stream("log").write("foreign")
    both = asyncio.gather(read(run.stream("log")), read(run.stream("unwritten")))
    await env.wait_for_hook(run)
    await env.client.resume("e", "x")
    assert list(await both) == [["foreign"], []]


@workflow
async def switch(token: str) -> str:
    """A run that is a cancel switch: what its hook is told, it says on its stream."""
    reason = await hook(str, token=token)
    await stream("switch", str).write(reason)
    return reason


@step
async def works_until(switch_run: Run[Any]) -> str:
    source = current_step().client.run(switch_run.id).stream("switch", str)
    async for reason in source:
        return f"stopped: {reason}"
    return "never"


@workflow
async def switched(token: str) -> str:
    button = await offbook.start(switch, token, detached=True)
    return await works_until(button)


async def test_remote_switch_manual(env: CatalogueEnvironment) -> None:
    run = await env.client.start(switched, "button")
    await env.wait_for(run, "child_started")
    while True:
        try:
            await env.client.resume("button", "enough")
            break
        except offbook.HookNotFound:
            await env.pause(0.1)
    assert await run.result() == "stopped: enough"
