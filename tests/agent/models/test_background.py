"""An answer of OpenAI's Responses outlives the connection, the worker and the step's attempt."""

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from offbook.agent.errors import ModelError
from offbook.agent.messages import Text, Usage
from offbook.agent.models import Checkpoint, ModelEvent, OpenAIResponses, TextDelta
from support.responses import WORDS, Responses, said_by
from support.talk import ask, heard, kinds, response_of, text_of
from support.vendor import SECONDS, Asked, sse, vendor


async def until_cut(
    model: OpenAIResponses, resume: Checkpoint | None = None
) -> tuple[list[ModelEvent], ModelError]:
    """Return what a model says until it is cut."""
    found: list[ModelEvent] = []

    async def listen() -> None:
        async with aclosing(model.stream(ask("x"), resume=resume)) as events:
            async for event in events:
                found.append(event)  # noqa: PERF401 - what came before the cut counts

    with pytest.raises(ModelError) as caught:
        await listen()
    return found, caught.value


def checkpoint_of(events: list[ModelEvent]) -> Checkpoint:
    [first, *rest] = events
    assert isinstance(first, Checkpoint)
    assert not any(isinstance(event, Checkpoint) for event in rest)
    return first


@pytest.mark.parametrize("cut", range(1, len(said_by("x"))))
async def test_a_cut_answer_is_told_again_from_its_beginning_and_not_paid_twice(cut: int) -> None:
    server = Responses(cut_after=[cut] * min(cut, 2))
    async with vendor(server) as at:
        model = OpenAIResponses("gpt-5", base_url=at.url)
        first, error = await until_cut(model)
        checkpoint = checkpoint_of(first)
        assert error.retryable
        if cut > 1:  # else it was all told already
            again, _ = await until_cut(model, checkpoint)
            assert checkpoint_of(again) == checkpoint
            assert text_of(again) == text_of(first)
        events = await heard(model, ask("x"), resume=checkpoint)
    assert server.begun == ["resp_1"]
    assert kinds(events) == ["checkpoint", "text", "completed"]
    assert text_of(events) == "".join(WORDS)
    response = response_of(events)
    assert response.parts == (Text("".join(WORDS), "msg_1"),)
    assert (response.id, response.usage) == ("resp_1", Usage(input=3, output=4))


async def test_a_new_process_goes_on_with_what_an_old_one_began() -> None:
    server = Responses(cut_after=[3])
    async with vendor(server) as at:
        first, _ = await until_cut(OpenAIResponses("gpt-5", base_url=at.url))
        other = OpenAIResponses("gpt-5", base_url=at.url)
        stored = Checkpoint(dict(checkpoint_of(first).data))
        assert text_of(await heard(other, ask("x"), resume=stored)) == "".join(WORDS)
    assert len(server.begun) == 1


@pytest.mark.parametrize("status", ["failed", "cancelled"])
async def test_an_answer_that_the_vendor_gave_up_is_asked_for_anew(status: str) -> None:
    server = Responses(cut_after=[3])
    async with vendor(server) as at:
        model = OpenAIResponses("gpt-5", base_url=at.url)
        first, _ = await until_cut(model)
        server.status = status
        events = await heard(model, ask("x"), resume=checkpoint_of(first))
    assert server.begun == ["resp_1", "resp_2"]
    assert checkpoint_of(events) == Checkpoint({"response": "resp_2", "after": 0})
    assert text_of(events) == "".join(WORDS)


@pytest.mark.parametrize("data", [{"response": "resp_9", "after": 0}, {}, {"response": "../x"}])
async def test_an_answer_that_the_vendor_has_lost_is_asked_for_anew(data: dict[str, Any]) -> None:
    server = Responses()
    async with vendor(server) as at:
        model = OpenAIResponses("gpt-5", base_url=at.url)
        events = await heard(model, ask("x"), resume=Checkpoint(data))
    assert server.begun == ["resp_1"]
    assert text_of(events) == "".join(WORDS)


async def test_a_vendor_that_cannot_tell_now_is_asked_later() -> None:
    async def answering(asked: Asked) -> None:
        await asked.answer(503, b"", {"retry-after": "9"})

    async with vendor(answering) as at:
        model = OpenAIResponses("gpt-5", base_url=at.url)
        found, error = await until_cut(model, Checkpoint({"response": "resp_1", "after": 0}))
        assert [a.method for a in at.asked] == ["GET"]
    assert found == []
    assert (error.retryable, error.retry_after) == (True, 9.0)


async def listening(model: OpenAIResponses, begun: asyncio.Event, *, waits: bool) -> None:
    async with aclosing(model.stream(ask("x"))) as events:
        async for event in events:
            if isinstance(event, TextDelta):
                begun.set()
                if waits:
                    await asyncio.Event().wait()


@pytest.mark.parametrize("waits", [True, False], ids=["in the listener", "at the vendor"])
async def test_a_cancelled_call_cancels_the_answer_at_the_vendor(waits: bool) -> None:  # noqa: FBT001 - a parameter of the test
    server = Responses(cut_after=[5], holds=True)
    async with vendor(server) as at:
        begun = asyncio.Event()
        model = OpenAIResponses("gpt-5", base_url=at.url)
        task = asyncio.create_task(listening(model, begun, waits=waits))
        await asyncio.wait_for(begun.wait(), SECONDS)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert server.cancelled == ["resp_1"]
        await asyncio.wait_for(server.gone.wait(), SECONDS)


async def test_a_call_that_is_only_closed_goes_on_at_the_vendor() -> None:
    server = Responses(cut_after=[5], holds=True)
    async with vendor(server) as at:
        model = OpenAIResponses("gpt-5", base_url=at.url)
        events = model.stream(ask("x"))
        checkpoint = await anext(events)
        assert isinstance(checkpoint, Checkpoint)
        assert isinstance(await anext(events), TextDelta)
        await events.aclose()
        await asyncio.wait_for(server.gone.wait(), SECONDS)
        assert server.cancelled == []
        assert text_of(await heard(model, ask("x"), resume=checkpoint)) == "".join(WORDS)
    assert len(server.begun) == 1


async def test_an_answer_is_cancelled_by_its_checkpoint() -> None:
    server = Responses(cut_after=[3])
    async with vendor(server) as at:
        model = OpenAIResponses("gpt-5", base_url=at.url)
        first, _ = await until_cut(model)
        await model.cancel(checkpoint_of(first))
        await model.cancel(Checkpoint({}))
    assert server.cancelled == ["resp_1"]


async def test_a_vendor_that_is_gone_does_not_hold_a_cancel_up() -> None:
    begun = asyncio.Event()

    async def answering(asked: Asked) -> None:
        if asked.path.endswith("/cancel"):
            asked.cut()
            return
        asked.begin()
        await asked.send(sse(*said_by("resp_1")[:5]))
        await asked.hold()

    async with vendor(answering) as at:
        model = OpenAIResponses("gpt-5", base_url=at.url)
        task = asyncio.create_task(listening(model, begun, waits=False))
        await asyncio.wait_for(begun.wait(), SECONDS)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, SECONDS)
        assert at.last.path == "/responses/resp_1/cancel"
