"""Agents and the world outside: a vendor's connection, traces, and what must not get out."""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from offbook import Reset, RunCancelled
from offbook.adapters.log import LogObserver, Observers
from offbook.adapters.otel import OtelObserver
from offbook.agent import Agent, tool
from offbook.agent.models import OpenAIChat, Scripted, call
from offbook.testing import Environment
from support.hearing import read
from support.otlp import receiver

CANARY = "sk-canary-1234567890"


class Vendor:
    """A server that begins an answer and never ends it."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self.asked = b""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
        for word in ("Once ", "upon ", "a ", "time "):
            choice = {"index": 0, "delta": {"role": "assistant", "content": word}}
            chunk = {"id": "c", "model": "m", "choices": [choice]}
            writer.write(f"data: {json.dumps(chunk)}\n\n".encode())
        await writer.drain()
        while await reader.read(65536):
            pass
        self.gone.set()
        writer.close()


@asynccontextmanager
async def vendor() -> AsyncGenerator[tuple[Vendor, str]]:
    found = Vendor()
    server = await asyncio.start_server(found.answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield found, f"http://127.0.0.1:{port}/v1"


async def test_a_cancel_in_the_middle_of_an_answer_closes_the_vendors_connection(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    caplog.set_level(logging.DEBUG)
    async with vendor() as (told, address), Environment() as env:
        teller = Agent(OpenAIChat("m", base_url=address), name="w.teller")
        await env.add_worker()
        run = await env.client.start(teller.workflow(), "Tell a story")
        async with aclosing(run.stream().read()) as parts:
            async for part in parts:
                if not isinstance(part, Reset) and part.get("delta", "").strip() == "time":
                    break
        assert not told.gone.is_set()
        await run.cancel()
        async with asyncio.timeout(30):
            await told.gone.wait()
        with pytest.raises(RunCancelled):
            await run.result()
        assert CANARY.encode() in told.asked
        shown = await read(run.stream())
        assert [part["type"] for part in shown[-2:]] == ["abort", "finish"]
        history = await env.history(run)
        stored = repr(history) + repr(shown) + caplog.text
    assert "Tell a story" in stored
    assert CANARY not in stored


async def look_up(word: str) -> str:
    return word[::-1]


@tool(inline=True)
async def ponder(word: str) -> str:
    return word.upper()


scholar = Agent(
    Scripted(
        [[call("look_up", word="tea"), call("ponder", word="tea")], "Both are known."],
        name="book",
    ),
    name="w.scholar",
    tools=[look_up, ponder],
)


METRICS = {
    "gen_ai.client.token.usage": 2 * 2,
    "gen_ai.client.operation.duration": 2,
    "gen_ai.client.operation.time_to_first_chunk": 2,
    "gen_ai.execute_tool.duration": 2,
    "gen_ai.invoke_agent.duration": 1,
}
"""How often the scholar is measured: two calls of the model, each with tokens of two kinds."""


def attributes(span: Span) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for item in span.attributes:
        value = item.value
        found[item.key] = value.string_value or value.int_value
    return found


async def test_spans_of_an_agent_lie_under_their_steps_once_each() -> None:
    async with receiver() as tap:
        exporting = PeriodicExportingMetricReader(OTLPMetricExporter(f"{tap.endpoint}/v1/metrics"))
        metering = MeterProvider([exporting], shutdown_on_exit=False)
        provider = TracerProvider(shutdown_on_exit=False)
        exporter = OTLPSpanExporter(f"{tap.endpoint}/v1/traces")
        provider.add_span_processor(BatchSpanProcessor(exporter))
        observer = Observers([OtelObserver(provider, metering), LogObserver()])
        # Each turn is a replay: what a body tells must not be told again.
        async with Environment(observer=observer, always_suspend=True) as env:
            run = await env.client.start(scholar.workflow(), "What is tea?")
            result = await run.result()
        await asyncio.to_thread(provider.shutdown)
        await asyncio.to_thread(metering.shutdown)
        await tap.wait_for("invoke_workflow w.scholar")
        await tap.until(lambda: all(map(tap.histogram, METRICS)))
        spans = tap.spans
    by_id = {span.span_id: span for span in spans}
    parents = [
        (span.name, by_id[span.parent_span_id].name)
        for span in spans
        if span.name.partition(" ")[0] in {"chat", "execute_tool", "invoke_agent"}
    ]
    assert sorted(parents) == [
        ("chat book", "step.execute w.scholar.model"),
        ("chat book", "step.execute w.scholar.model"),
        ("execute_tool look_up", "step.execute w.scholar.look_up"),
        ("execute_tool ponder", "invoke_workflow w.scholar"),
        ("invoke_agent w.scholar", "invoke_workflow w.scholar"),
    ]
    chats = [attributes(span) for span in spans if span.name == "chat book"]
    assert all(chat["gen_ai.provider.name"] == "scripted" for chat in chats)
    assert sum(chat["gen_ai.usage.output_tokens"] for chat in chats) == result.usage.output
    (whole,) = [attributes(span) for span in spans if span.name.startswith("invoke_agent")]
    assert whole["gen_ai.usage.output_tokens"] == result.usage.output
    (used,) = [attributes(span) for span in spans if span.name == "execute_tool look_up"]
    assert (used["gen_ai.tool.call.id"], used["gen_ai.tool.name"]) == ("call_0_0", "look_up")
    assert "What is tea?" not in str(spans)
    measured = {name: tap.histogram(name) for name in METRICS}
    assert {name: sum(p.count for p in points) for name, points in measured.items()} == METRICS
    tokens = measured["gen_ai.client.token.usage"]
    assert sum(point.sum for point in tokens) == result.usage.total
