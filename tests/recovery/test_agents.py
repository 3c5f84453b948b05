"""A worker is killed in the middle of an agent's sentences; another one finishes them."""

import asyncio
import os
import random
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import offbook
from offbook import Client, Reset, Run
from offbook.actors.tokens import beat_key
from recovery.scene import QUICK
from support import doom
from support.agents import DELAY, FOLDER, HOLD, builder, reader
from support.hearing import read
from support.ledger import Ledger
from support.otlp import Receiver, receiver
from support.player import TELEMETRY
from support.ports import until
from support.processes import Troupe
from support.responses import WORDS, Responses
from support.vendor import vendor

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
FULL = os.environ.get("OFFBOOK_CHAOS") == "full"
KILLS = ["Now", "fix", "good,"]
"""In the second answer, at the use of a tool, and in the last answer."""
ANSWERS = 4
OTHER = reader.model.name
HALF = {
    "gen_ai.client.token.usage": 2,
    "gen_ai.client.operation.duration": 1,
    "gen_ai.client.operation.time_to_first_chunk": 1,
    "gen_ai.execute_tool.duration": 2,
}
"""How often is measured what comes before the second answer: tokens are of two kinds."""
ALL = {
    "gen_ai.client.token.usage": 2 * ANSWERS,
    "gen_ai.client.operation.duration": ANSWERS,
    "gen_ai.client.operation.time_to_first_chunk": ANSWERS,
    "gen_ai.execute_tool.duration": 5,
    "gen_ai.invoke_agent.duration": 1,
}
"""How often all of the run is measured."""


def plain(parts: list[Any], run: str) -> list[Any]:
    """Return parts without the id of their run."""
    return [{k: str(v).replace(run, "RUN") for k, v in part.items()} for part in parts]


class Listener:
    """Reads a run live: takes back what is withdrawn, and wants nothing that it has already."""

    def __init__(self, run: Run[Any]) -> None:
        self.words: asyncio.Queue[str] = asyncio.Queue()
        self._run = run
        self._heard: list[Any] = []
        self._task = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        async for chunk in self._run.stream().chunks():
            if isinstance(chunk, Reset):
                gone = set(chunk.indices)
                self._heard = [one for at, one in enumerate(self._heard) if at not in gone]
                continue
            assert chunk.index == len(self._heard), "something was said twice, or left out"
            self._heard.append(chunk.value)
            self.words.put_nowait(str(chunk.value.get("delta") or chunk.value.get("output")))

    async def until(self, cue: str) -> None:
        """Return once a word is said; each counts once."""
        while cue not in await self.words.get():
            pass

    @property
    def first(self) -> dict[str, Any]:
        """The part that says that an answer begins."""
        found: dict[str, Any] = self._heard[0]
        return found

    async def all(self) -> list[Any]:
        """Return what is left at the end, which is what everybody reads."""
        await self._task
        assert self._heard == await read(self._run.stream())
        return plain(self._heard, self._run.id)


@asynccontextmanager
async def house(
    url: str, namespace: str, folder: Path, patch: pytest.MonkeyPatch, **variables: str
) -> AsyncGenerator[tuple[Client, Troupe]]:
    """Give a client, and a troupe whose workers write down whom they ask."""
    for name, value in {FOLDER: str(folder), **variables}.items():
        patch.setenv(name, value)
    client = offbook.connect(url, namespace=namespace, partitions=1, shards=1, settings=QUICK)
    troupe = Troupe(url, namespace, "support.agents", Ledger(folder / "acts"), QUICK)
    async with client, troupe:
        yield client, troupe


async def played(client: Client, name: str) -> tuple[Any, list[Any]]:
    """Return what comes of a run, and what is said in it."""
    run = await client.start(builder.workflow(), "Build", id=name)
    listener = Listener(run)
    return await run.result(), await listener.all()


async def swap(troupe: Troupe) -> None:
    """Kill the only worker, and bring another one."""
    await next(player for player in troupe.players if player.alive).kill()
    await troupe.add()


def counted(folder: Path) -> Counter[str]:
    return Counter((folder / "agents.txt").read_text(encoding="utf-8").splitlines())


def alike(said: list[Any]) -> list[str]:
    """Return parts in an order that tools which run side by side do not change."""
    return sorted(map(str, said))


@pytest.mark.skipif(not FULL, reason="it takes long: make chaos-agents")
async def test_an_agent_that_is_killed_three_times_says_everything_once(
    nats_url: str, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = house(nats_url, namespace, tmp_path, monkeypatch, **{DELAY: "0.05"})
    async with place as (client, troupe):
        await troupe.add()
        expected, transcript = await played(client, "calm")
        (tmp_path / "agents.txt").unlink()
        run = await client.start(builder.workflow(), "Build", id="killed")
        listener = Listener(run)
        for cue in KILLS:
            await listener.until(cue)
            await swap(troupe)
        assert await run.result() == expected
        assert alike(await listener.all()) == alike(transcript)
    done = counted(tmp_path)
    asked = {place: done[f"asked {place}"] for place in range(ANSWERS)}
    assert asked[0] == 1, "it was answered before the first kill"
    assert sum(asked.values()) <= ANSWERS + len(KILLS)
    assert all(asked.values())


def boundaries(count: Counter[str]) -> list[tuple[str, str, int]]:
    """Return each write of a run's log and of its stream, before and after; or one of them."""
    # Writes go together or apart as it comes, so that the last ones of a run may be missing.
    share = 1.0 if FULL else 0.5
    places = [
        (kind, when, nth + 1)
        for kind in ("log", "streams")
        for nth in range(round(share * count[kind]))
        for when in ("before", "after")
    ]
    return places if FULL else [random.choice(places)]


def check_paid(done: Counter[str], place: tuple[str, str, int]) -> None:
    """No answer that was recorded is asked for again, and each tool is used for each call."""
    asked = {number: done[f"asked {number}"] for number in range(ANSWERS)}
    again = sum(asked.values()) - ANSWERS
    assert all(asked.values()), place
    assert again <= 1, f"{place}: only the answer that the death cut short"
    if place[:2] == ("log", "after"):
        assert again == 0, f"{place}: all that had been answered was recorded"
    used = Counter({line: count for line, count in done.items() if line.startswith("used")})
    assert len(used) == 5, place
    assert used.total() <= 5 + 2, place


@pytest.mark.timeout(900 if FULL else 120)
async def test_killed_at_any_event_an_agent_pays_once_and_says_everything_once(
    nats_url: str, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = house(nats_url, namespace, tmp_path, monkeypatch, **{doom.FOLDER: str(tmp_path)})
    async with place as (client, troupe):
        await troupe.add()
        expected, transcript = await played(client, "calm")
        calm = doom.writes(tmp_path, "calm")
        assert calm["log"] >= 2 * ANSWERS, "each answer is recorded, and so are the tools"
        died: list[tuple[str, str, int]] = []
        for number, boundary in enumerate(places := boundaries(calm)):
            await asyncio.gather(*(troupe.add() for _ in range(2 - alive(troupe))))
            (tmp_path / "agents.txt").unlink()
            name = f"killed-{number}"
            kind, when, nth = boundary
            doom.Order(name, kind, when, nth).give(tmp_path)
            result, said = await played(client, name)
            assert (result, alike(said)) == (expected, alike(transcript)), boundary
            check_paid(counted(tmp_path), boundary)
            if not doom.is_pending(tmp_path):
                died.append(boundary)
                await until(lambda: one_dead(troupe))
    assert len(died) >= 0.8 * len(places)


def alive(troupe: Troupe) -> int:
    return sum(player.alive for player in troupe.players)


async def one_dead(troupe: Troupe) -> bool:
    return alive(troupe) < 2


# What others see of a kill


def parents_of(tap: Receiver, run: str, kind: str) -> list[tuple[str, str]]:
    """Return the spans of a kind with those in which they lie; each must be there once."""
    (root,) = {
        span.trace_id for span in tap.spans if span.name.startswith("invoke_w") and run in str(span)
    }
    names = {span.span_id: span.name for span in tap.spans if span.trace_id == root}
    found = [
        span for span in tap.spans if span.name.startswith(f"{kind} ") and span.trace_id == root
    ]
    assert len({span.span_id for span in found}) == len(found)
    return sorted((span.name, names[span.parent_span_id]) for span in found)


def measured(tap: Receiver, name: str) -> tuple[int, float]:
    """Return how often something was measured in all processes, and the sum; of the builder."""
    points = [point for point in tap.histogram(name) if OTHER not in str(point)]
    return sum(point.count for point in points), sum(point.sum for point in points)


async def there(client: Client, key: str) -> bool:
    return await client.backend.hooks.get(key) is not None


async def begun(client: Client, server: Responses) -> tuple[Run[Any], Listener]:
    """Have an answer come from afar, of which half is said, and the rest is kept back."""
    run = await client.start(reader.workflow(), "Count", id="far")
    listener = Listener(run)
    await listener.until(WORDS[1])
    step = listener.first["messageId"].partition(":")[2]
    await until(lambda: there(client, beat_key(run.id, step)))
    assert server.begun == ["resp_1"]
    return run, listener


async def half_told(client: Client, tap: Receiver) -> tuple[Run[Any], Listener]:
    """Have a run in the middle of its second answer, and all that was before told to a collector.

    A killed process tells no more.
    """
    run = await client.start(builder.workflow(), "Build", id="killed")
    listener = Listener(run)
    await listener.until("Now")
    for name in ("chat scripted", "execute_tool plan", "execute_tool write"):
        await tap.wait_for(name)
    # What is sent together comes one by one.
    await tap.until(lambda: all(measured(tap, name)[0] >= n for name, n in HALF.items()))
    return run, listener


async def test_killed_in_the_middle_of_a_word_it_is_paid_said_and_told_once(
    nats_url: str, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Responses(cut_after=[5], holds=True)
    async with vendor(server) as at, receiver() as tap:
        variables = {HOLD: "Now", TELEMETRY: tap.endpoint, "OTEL_BSP_SCHEDULE_DELAY": "50"}
        place = house(
            nats_url, namespace, tmp_path, monkeypatch, OPENAI_BASE_URL=at.url, **variables
        )
        async with place as (client, troupe):
            await troupe.add()
            far, of_far = await begun(client, server)
            run, listener = await half_told(client, tap)
            await swap(troupe)
            result = await run.result()
            assert (await far.result()).text == "".join(WORDS)
            await of_far.all()
            said = await listener.all()
            done = counted(tmp_path)
            await tap.wait_for("invoke_workflow support.builder")
            await tap.until(lambda: all(measured(tap, name)[0] >= n for name, n in ALL.items()))
            check_told(tap, run.id, result.usage.total)
            expected, transcript = await played(client, "calm")
    assert (result, alike(said)) == (expected, alike(transcript))
    assert [done[f"asked {number}"] for number in range(ANSWERS)] == [1, 2, 1, 1]
    assert [done[f"answered {number}"] for number in range(ANSWERS)] == [1, 1, 1, 1]
    assert server.begun == ["resp_1"], "in the background one answer was begun, and paid"
    assert [asked.method for asked in at.asked] == ["POST", "GET", "GET"]
    assert at.last.path == "/responses/resp_1?stream=true&starting_after=0"


def check_told(tap: Receiver, run: str, tokens: int) -> None:
    """All spans of the run are in one trace, under their steps, once each; metrics agree."""
    assert (
        parents_of(tap, run, "chat")
        == [("chat scripted", "step.execute support.builder.model")] * ANSWERS
    )
    assert parents_of(tap, run, "execute_tool") == [
        (f"execute_tool {tool}", f"step.execute support.builder.{tool}")
        for tool in ("fix", "plan", "ship", "test", "write")
    ]
    assert parents_of(tap, run, "invoke_agent") == [
        ("invoke_agent support.builder", "invoke_workflow support.builder")
    ]
    assert {name: measured(tap, name)[0] for name in ALL} == ALL
    assert measured(tap, "gen_ai.client.token.usage")[1] == tokens
