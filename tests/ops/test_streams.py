"""`offbook stream`, `topic` and `webhook url` against a real server and a worker of their own."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from support.commands import Place

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

TALK = """
from offbook import FatalError, hook, step, stream, topic, webhook, workflow


@step(retry=1)
async def tokens() -> None:
    out = stream("tokens")
    await out.write_many(["to ", "be"])
    await out.flush()
    if current_attempt() == 1:
        raise ValueError("once more")
    await out.write("\\x1b[31m or not")
    await out.close()


def current_attempt() -> int:
    from offbook import current_step

    return current_step().attempt


@workflow
async def speaks(token: str) -> None:
    await stream("progress").write_many([{"n": n} for n in range(5)])
    await tokens()
    await hook(str, token=token)


@workflow
async def listens(room: str) -> str:
    async for words in topic(room, str, authors={"planner"}, start="begin"):
        return words
    return ""


@workflow
async def is_called() -> str:
    async with webhook(methods={"PUT", "POST"}) as first, webhook() as second:
        await first
        await second
    return "called"
"""


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A folder with a module and a worker that serves it."""
    folder = tmp_path_factory.mktemp("talk")
    (folder / "talk.py").write_text(TALK)
    place = Place(folder)
    with place.background("worker", "talk", "--json") as worker:
        worker.until(ready=True)
        yield place
        assert worker.stop() == 0


def seen(talk: Place, run: str, kind: str, count: int = 1) -> None:
    """Return once a run's history has events of a kind."""
    with talk.background("events", run, "--follow", "--json") as events:
        for _ in range(count):
            events.until(type=kind)


@pytest.fixture(scope="module")
def spoken(talk: Place) -> str:
    """A run that has spoken and waits."""
    assert talk("start", "talk:speaks", "over", "--id", "spoken").code == 0
    seen(talk, "spoken", "hook_opened")
    return "spoken"


def test_a_stream_is_read_from_any_place(talk: Place, spoken: str) -> None:
    def read(*options: str) -> str:
        return talk.inside("stream", spoken, "progress", *options).out

    assert read("--limit", "2") == '{"n": 0}\n{"n": 1}\n'
    assert read("--from", "3", "--no-follow") == '{"n": 3}\n{"n": 4}\n'
    assert read("--tail", "1", "--no-follow") == '{"n": 4}\n'
    assert read("--from", "-2", "--limit", "1") == '{"n": 3}\n'
    first = talk.inside("stream", spoken, "progress", "--limit", "2", "--json").lines[-1]
    assert (first["type"], first["index"], first["value"]) == ("chunk", 1, {"n": 1})
    assert read("--from", first["cursor"], "--limit", "1") == '{"n": 2}\n'
    names = talk.inside("stream", spoken, "--list").out.split()
    assert {"progress", "tokens"} <= set(names)  # other tests write to streams of their own


def test_a_stream_that_was_closed_ends_by_itself(talk: Place, spoken: str) -> None:
    joined = talk.inside("stream", spoken, "tokens", "--join")
    assert (joined.code, joined.out) == (0, "to be\\x1b[31m or not"), "it steers no terminal"


def test_attempts_that_were_withdrawn_are_shown_to_who_asks(talk: Place, spoken: str) -> None:
    effective = talk.inside("stream", spoken, "tokens", "--json").lines
    assert [chunk["value"] for chunk in effective] == ["to ", "be", "\x1b[31m or not"]
    attempts = talk.inside("stream", spoken, "tokens", "--view", "attempts")
    assert attempts.out.splitlines()[:2] == ["to ", "be"]
    assert "attempt 1" in attempts.err
    raw = talk.inside("stream", spoken, "tokens", "--raw", "--no-follow", "--json").lines
    assert [chunk["attempt"] for chunk in raw] == [1, 1, 2, 2, 2]


def test_chunks_are_written_from_the_shell(talk: Place, spoken: str) -> None:
    assert talk.inside("stream", spoken, "notes", "--write", '"one"', "--write", "[2]").code == 0
    assert talk.inside("stream", spoken, "notes", "--no-follow").out == "one\n[2]\n"
    wrong = talk.inside("stream", spoken, "notes", "--write", "one")
    assert (wrong.code, "text needs quotes" in wrong.err) == (2, True)


def test_wrong_options_and_names_say_what_to_do(talk: Place, spoken: str) -> None:
    both = talk.inside("stream", spoken, "--from", "1", "--tail", "1")
    assert (both.code, "exclude each other" in both.err) == (2, True)
    nobody = talk.inside("stream", "nobody", "--json")
    assert (nobody.code, nobody.error["code"]) == (3, "run-not-found")
    odd = talk.inside("topic", "not a name", "--json")
    assert (odd.code, odd.error["code"]) == (2, "invalid-name")
    cursor = talk.inside("topic", "room", "--from", "nonsense", "--json")
    assert cursor.code == 2


def test_a_topic_is_written_and_read_by_author(talk: Place) -> None:
    talk.inside("start", "talk:listens", "room", "--id", "ear")
    said = talk.inside("--json", "topic", "room", "--write", '"no"', "--author", "judge")
    assert (said.code, said.lines) == (0, [{"written": 1}])
    assert talk.inside("topic", "room", "--write", '"yes"', "--author", "planner").code == 0
    assert talk.inside("result", "ear").out == "yes\n"
    everybody = talk.inside("topic", "room", "--from", "begin", "--no-follow", "--json").lines
    assert [(c["author"], c["value"]) for c in everybody] == [("judge", "no"), ("planner", "yes")]
    judge = talk.inside("topic", "room", "--from", "begin", "--author", "judge", "--limit", "1")
    assert judge.out == "no\n"
    assert talk.inside("topic", "room", "--write", "1", "--author", "a", "--author", "b").code == 2


def test_webhook_url_prints_where_a_run_listens(talk: Place) -> None:
    talk.inside("start", "talk:is_called", "--id", "called")
    seen(talk, "called", "hook_opened", 2)
    bare = talk.inside("webhook", "url", "called").out.split()
    assert len(set(bare)) == 2
    assert all(path.startswith("/.well-known/offbook/v1/webhook/") for path in bare)
    told = talk.inside("webhook", "url", "called", "--base", "https://shop.example", "--json").data
    assert [urlsplit(str(one["url"])).path for one in told] == bare
    assert [one["methods"] for one in told] == [["POST", "PUT"], ["POST"]]
    wrong = talk.inside("webhook", "url", "called", "--base", "shop", "--json")
    assert (wrong.code, wrong.error["code"]) == (2, "invalid-option")
    talk.inside("terminate", "called")
    assert talk.inside("result", "called").code == 1
    assert talk.inside("webhook", "url", "called").out == ""
