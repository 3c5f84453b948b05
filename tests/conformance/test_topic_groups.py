"""Topic groups: topics with limits of their own, each group a stream of its own on the server."""

from datetime import timedelta
from typing import Any, cast

import pytest

from offbook import (
    Chunk,
    InvalidName,
    InvalidOption,
    Run,
    Stream,
    TopicGroupMismatch,
    TopicGroupMissing,
    step,
    topic,
    workflow,
)
from support.worlds import CatalogueEnvironment


async def kept(source: Stream[Any]) -> list[Any]:
    """Return what a topic holds now."""
    found = source.chunks(follow=False)
    return [chunk.value async for chunk in found if isinstance(chunk, Chunk)]


@step
async def reports(name: str, words: str) -> None:
    await topic(name).write(words)


@workflow
async def trades(name: str, count: int) -> list[str]:
    await reports(name, "opened")
    for n in range(count):
        await topic(name).write(f"trade {n}")
    return [str(words) async for words in topic(name, str, follow=False)]


async def test_a_group_keeps_so_many_messages_of_each_topic(env: CatalogueEnvironment) -> None:
    await env.client.create_topics("audit", max_messages=3)
    run = await env.client.start(trades, "audit.shares", 4)
    assert await run.result() == ["trade 1", "trade 2", "trade 3"]
    await env.client.topic("audit.bonds").write("one")
    assert await kept(env.client.topic("audit.bonds")) == ["one"]
    assert await kept(env.client.topic("audit.shares")) == ["trade 1", "trade 2", "trade 3"]
    assert await kept(env.client.topic("shares")) == [], "another topic, of no group"


async def test_a_group_keeps_so_many_bytes(env: CatalogueEnvironment) -> None:
    await env.client.create_topics("small", max_bytes=10_000)
    for n in range(6):
        await env.client.topic("small.a" if n % 2 else "small.b").write(f"{n}" * 3_000)
    found = await kept(env.client.topic("small.a")) + await kept(env.client.topic("small.b"))
    assert sorted(words[0] for words in found) in (["3", "4", "5"], ["4", "5"])


async def test_a_group_keeps_messages_so_long(env: CatalogueEnvironment) -> None:
    await env.client.create_topics("brief", keep=timedelta(seconds=1))
    brief = env.client.topic("brief.news")
    await brief.write("old")
    while await kept(brief):
        await env.pause(0.2)
    await brief.write("new")
    assert await kept(brief) == ["new"]


async def test_live_readers_of_a_group_hear_what_comes(env: CatalogueEnvironment) -> None:
    await env.client.create_topics("live")
    room = env.client.topic("live.room")
    await room.write("first")
    heard: list[str] = []
    async for chunk in room.chunks():
        assert isinstance(chunk, Chunk)
        heard.append(chunk.value)
        if len(heard) == 3:
            break
        await room.write(f"after {chunk.value}")
    assert heard == ["first", "after first", "after after first"]


async def test_a_group_that_is_not_there_is_said(env: CatalogueEnvironment) -> None:
    nowhere = env.client.topic("nowhere.room")
    for doing in (nowhere.write("x"), kept(nowhere), nowhere.tail(), nowhere.page()):
        with pytest.raises(TopicGroupMissing, match="create_topics"):
            await doing
    run: Run[Any] = await env.client.start(catches, "nowhere.room")
    assert await run.result() == ["topic-group-missing", "topic-group-missing"]


@workflow
async def catches(name: str) -> list[str]:
    caught: list[str] = []
    try:
        await reports_once(name)
    except TopicGroupMissing as error:
        caught.append(error.code)
    try:
        await anext(topic(name).read())
    except TopicGroupMissing as error:
        caught.append(error.code)
    return caught


@step(retry=0)
async def reports_once(name: str) -> None:
    await topic(name).write("x")


async def test_what_a_body_wrote_waits_for_its_group(env: CatalogueEnvironment) -> None:
    run = await env.client.start(writes_early, "later.room")
    await env.wait_for(run, "stream_written")
    await env.client.create_topics("later")
    await run.result()
    assert await anext(env.client.topic("later.room").read()) == "early"


@workflow
async def writes_early(name: str) -> None:
    await topic(name).write("early")


async def test_a_group_is_created_once_and_never_changed(env: CatalogueEnvironment) -> None:
    for _ in range(2):
        await env.client.create_topics("fixed", keep=60, max_messages=5)
    with pytest.raises(TopicGroupMismatch) as caught:
        await env.client.create_topics("fixed", keep=60, max_messages=6)
    assert (caught.value.setting, caught.value.found, caught.value.asked) == ("max_messages", 5, 6)
    await env.client.create_topics("fixed", keep=60, max_messages=5, replicas=1)


@pytest.mark.parametrize("name", ["a.b.c", ".a", "a.", "a b", "a.*", ">", "", 5])
async def test_names_that_no_topic_can_have(env: CatalogueEnvironment, name: object) -> None:
    with pytest.raises(InvalidName):
        env.client.topic(cast("str", name))


async def test_settings_that_no_group_can_have(env: CatalogueEnvironment) -> None:
    bad: list[dict[str, Any]] = [
        {"keep": -1}, {"keep": "7d"}, {"keep": 0.1}, {"max_messages": 0}, {"max_bytes": 1.5},
        {"max_bytes": True}, {"replicas": 2},
    ]  # fmt: skip
    for options in bad:
        with pytest.raises(InvalidOption, match=next(iter(options))):
            await env.client.create_topics("bad", **options)
    with pytest.raises(InvalidName):
        await env.client.create_topics("a.b")
