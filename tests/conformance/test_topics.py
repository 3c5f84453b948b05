"""Topics: streams without a run, on which many runs and clients talk."""

import asyncio
from typing import Any

from offbook import Chunk, Reset, Retry, Stream, current_step, hook, step, topic, workflow
from support.notes import note, noted
from support.rests import quick_to_rest, rests
from support.worlds import CatalogueEnvironment


async def take(source: Stream[Any], count: int, start: str | None = None) -> list[Chunk[Any]]:
    """Read so many chunks, and leave."""
    found: list[Chunk[Any]] = []
    async for chunk in source.chunks(start):
        assert isinstance(chunk, Chunk)
        found.append(chunk)
        if len(found) == count:
            break
    return found


def said(chunks: list[Chunk[Any]]) -> list[tuple[str, Any]]:
    return [(chunk.author, chunk.value) for chunk in chunks]


@step
async def tell(name: str, words: str, author: str | None) -> None:
    await topic(name, author=author).write(words)


@workflow
async def talks(name: str, words: str) -> None:
    await topic(name).write(f"{words} from the body")
    await topic(name, author="another").write_many([f"{words} again"])
    await tell(name, f"{words} from a step", None)
    await tell(name, f"{words} from a step", "planner")


async def test_authors_of_a_topic(env: CatalogueEnvironment) -> None:
    run = await env.client.start(talks, "debate", "hello")
    await run.result()
    debate = env.client.topic("debate")
    found = await take(debate, 4)
    assert said(found) == [
        (run.id, "hello from the body"),
        ("another", "hello again"),
        (run.id, "hello from a step"),
        ("planner", "hello from a step"),
    ]
    assert [chunk.index for chunk in found] == [0, 1, 2, 3]
    assert await run.streams() == [], "a topic is no stream of the run"


async def test_one_client_writes_for_many_authors(env: CatalogueEnvironment) -> None:
    def author(n: int) -> str:
        return "abc"[n % 3]

    async with asyncio.TaskGroup() as group:
        for n in range(60):
            group.create_task(env.client.topic("roles", author=author(n)).write(n))
    found = said(await take(env.client.topic("roles"), 60))
    assert sorted(value for _, value in found) == list(range(60))
    assert all(name == author(value) for name, value in found)


@step
async def quarrel() -> None:
    for n in range(9):
        await topic("quarrel", author="xyz"[n % 3]).write(n)


@workflow
async def quarrels() -> None:
    await quarrel()


async def test_one_step_writes_for_many_authors(env: CatalogueEnvironment) -> None:
    run = await env.client.start(quarrels)
    await run.result()
    found = said(await take(env.client.topic("quarrel"), 9))
    assert found == [("xyz"[n % 3], n) for n in range(9)]


async def test_each_reader_of_a_topic_has_its_own_place(env: CatalogueEnvironment) -> None:
    news = env.client.topic("news")
    await news.write_many(["one", "two"])
    late = asyncio.create_task(take(news, 2, "now"))
    written = ["one", "two"]
    while not late.done():
        written.append(f"{len(written)}")
        await news.write(written[-1])
        await env.pause(0.5)
    first, second = await late
    at = written.index(first.value)
    assert at >= 2, "nothing that was there before"
    assert [first.index, second.index, second.value] == [at, at + 1, written[at + 1]]
    assert [c.value for c in await take(news, len(written))] == written
    assert [v async for v in news.read(first.cursor, follow=False)] == written[at + 1 :]
    assert [v async for v in news.read(follow=False)] == written
    assert await news.tail() == len(written) - 1


@step
async def speaks_up(name: str, speaker: int, count: int) -> None:
    place = topic(name, author=f"speaker {speaker}")
    for n in range(count):
        await place.write([speaker, n])


@workflow
async def debates(name: str, speakers: int, count: int) -> None:
    await asyncio.gather(*(speaks_up(name, speaker, count) for speaker in range(speakers)))


async def test_many_writers_and_readers_of_one_topic_agree(env: CatalogueEnvironment) -> None:
    readers = [asyncio.create_task(take(env.client.topic("crowd"), 200)) for _ in range(5)]
    runs = [await env.client.start(debates, "crowd", 5, 20, id=f"crowd-{n}") for n in range(2)]
    lists = [said(await reader) for reader in readers]
    assert lists == [lists[0]] * 5, "one order for all"
    await asyncio.gather(*(run.result() for run in runs))
    for speaker in range(5):
        mine = [value[1] for author, value in lists[0] if author == f"speaker {speaker}"]
        assert sorted(mine) == sorted([*range(20), *range(20)])


@step(retry=Retry(attempts=2, first=0.01, jitter=0))
async def repeats_itself() -> None:
    attempt = current_step().attempt
    await topic("retry").write_many([f"{attempt}.0", f"{attempt}.1"])
    if attempt == 1:
        raise ValueError("again")
    note("repeated")


@workflow
async def repeating() -> None:
    await topic("retry").write("begin")
    await repeats_itself()
    await topic("retry").write("end")


async def test_of_a_retried_step_a_topic_keeps_one_attempt(env: CatalogueEnvironment) -> None:
    run = await env.client.start(repeating)
    await noted(run, "repeated")
    place = env.client.topic("retry")
    found: list[Any] = []
    async for value in place:
        if isinstance(value, Reset):
            del found[value.index :]
        else:
            found.append(value)
        if found[-1:] == ["end"]:
            break
    assert found == ["begin", "2.0", "2.1", "end"]
    assert [v async for v in place.read(follow=False)] == found
    await run.result()


@workflow
async def argues(name: str, me: str, other: str, rounds: int, *, first: bool) -> list[str]:
    heard: list[str] = []
    debate = topic(name, str, author=me, authors={other})
    if first:
        await debate.write(f"{me} 0")
    async for words in debate:
        heard.append(str(words))
        if len(heard) <= rounds - first:
            await debate.write(f"{me} {len(heard) - (not first)}")
        if len(heard) == rounds:
            break
    return heard


async def test_two_bodies_debate_on_a_topic(env: CatalogueEnvironment) -> None:
    one = await env.client.start(argues, "for-and-against", "pro", "con", 3, first=True)
    two = await env.client.start(argues, "for-and-against", "con", "pro", 3, first=False)
    assert await one.result() == ["con 0", "con 1", "con 2"]
    assert await two.result() == ["pro 0", "pro 1", "pro 2"]
    spoken = await take(env.client.topic("for-and-against"), 6)
    assert [chunk.author for chunk in spoken] == ["pro", "con"] * 3


@workflow
async def catches_up(name: str, start: str) -> tuple[list[str], str]:
    heard: list[str] = []
    cursor = start
    async for chunk in topic(name, str, start=start, follow=False).chunks():
        assert isinstance(chunk, Chunk)
        heard.append(chunk.value)
        cursor = chunk.cursor
    return heard, cursor


async def test_a_body_goes_on_where_it_had_come_to(env: CatalogueEnvironment) -> None:
    news = env.client.topic("news")
    await news.write_many([f"old {n}" for n in range(120)])
    first, cursor = await (await env.client.start(catches_up, "news", "begin")).result()
    assert first == [f"old {n}" for n in range(120)]
    await news.write("new")
    again, _ = await (await env.client.start(catches_up, "news", cursor)).result()
    assert again == ["new"]
    nothing, _ = await (await env.client.start(catches_up, "news", "now")).result()
    assert nothing == []


@workflow
async def reads_twice(name: str) -> list[str]:
    heard: list[str] = []
    cursor = "begin"
    async for chunk in topic(name, str, follow=False).chunks():
        assert isinstance(chunk, Chunk)
        heard.append(chunk.value)
        cursor = chunk.cursor
    await hook(str, token=f"go on with {name}")
    return heard + [str(words) async for words in topic(name, str, start=cursor, follow=False)]


async def test_a_body_has_a_message_once_that_was_sent_twice(env: CatalogueEnvironment) -> None:
    twice, other = env.client.topic("twice"), env.make_client()
    await twice.write("one")
    async with other:
        await other.topic("twice").write("between")
    run = await env.client.start(reads_twice, "twice")
    await env.wait_for_hook(run)
    streams = env.client.backend.streams
    stored = await streams.page(twice.channel, 0, 1)
    await streams.append(twice.channel, stored[0].data)  # as a writer does whose answer was lost
    await twice.write("two")
    await env.client.resume("go on with twice", "go")
    assert await run.result() == ["one", "between", "two"]


@workflow
async def waits_for_two(name: str) -> list[str]:
    heard: list[str] = []
    async for words in topic(name, str):
        heard.append(str(words))
        if len(heard) == 2:
            break
    return heard


async def test_a_body_that_waits_for_a_topic_is_not_in_memory(env: CatalogueEnvironment) -> None:
    await quick_to_rest(env)
    run = await env.client.start(waits_for_two, "rest")
    for count, words in enumerate(("one", "two"), 1):
        await rests(env, run.id)
        await env.client.topic("rest").write(words)
        while (await env.kinds(run)).count("step_completed") < count:
            await env.pause(0.5)
    assert await run.result() == ["one", "two"]
    kinds = await env.kinds(run)
    assert kinds.count("step_completed") == 2
