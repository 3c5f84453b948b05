"""A whole agent on each wire, and all that a vendor can do to it in one run."""

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from offbook import Retry
from offbook.adapters.log import LogObserver, Observers
from offbook.adapters.otel import OtelObserver
from offbook.agent import Agent
from offbook.agent.models import AnthropicMessages, Model, OpenAIChat, OpenAIResponses
from offbook.testing import Environment
from support.hearing import read
from support.llmock import Llmock

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]  # the first use installs the server
CANARY = "sk-canary-9876543210"


@pytest.fixture(scope="module")
def llm() -> Iterator[Llmock]:
    with Llmock() as server:
        yield server


def models(url: str, headers: dict[str, str]) -> dict[str, Model]:
    return {
        "chat": OpenAIChat("gpt-5", base_url=f"{url}/v1", headers=headers),
        "responses": OpenAIResponses("gpt-5", base_url=f"{url}/v1", headers=headers),
        "anthropic": AnthropicMessages("claude", base_url=url, headers=headers),
    }


@dataclass
class Cities:
    """A tool that remembers who was in it, and at once with whom."""

    seen: list[str] = field(default_factory=list[str])
    inside: int = 0
    most: int = 0
    both: asyncio.Event = field(default_factory=asyncio.Event)

    async def weather(self, city: str) -> int:
        """Tell the degrees in a city."""
        self.seen.append(city)
        self.inside += 1
        self.most = max(self.most, self.inside)
        if self.inside == 2:
            self.both.set()
        await self.both.wait()
        self.inside -= 1
        return len(city)


@pytest.mark.parametrize("wire", ["chat", "responses", "anthropic"])
async def test_an_agent_comes_through_all_that_a_vendor_does_to_it(
    wire: str, llm: Llmock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    monkeypatch.setenv("ANTHROPIC_API_KEY", CANARY)
    caplog.set_level(logging.DEBUG)
    spans = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    cities = Cities()
    agent = Agent(
        models(llm.url, {"x-test-id": f"whole-{wire}"})[wire],
        name=f"llm.whole-{wire}",
        tools=[cities.weather],
        retry=Retry(attempts=5, first=0.05, jitter=0),
    )
    async with Environment(observer=Observers([OtelObserver(provider), LogObserver()])) as env:
        run = await env.client.start(agent.workflow(), "The weather after trouble?")
        result = await run.result()
        parts = await read(run.stream())
        history = await env.history(run)
        events = [event async for event in run.events()]
    assert result.text == "Oslo 4, Rome 4."
    assert "".join(p.get("delta", "") for p in parts if p["type"] == "text-delta") in (
        "Let me look.Oslo 4, Rome 4."
    ), "of the answer that was cut nothing is left"
    assert sorted(cities.seen)[-2:] == ["Oslo", "Rome"]
    assert cities.most == 2, "tools that are called together run side by side"
    retries = [event for event in events if event.type == "step_retrying"]
    assert len(retries) == 3, "too many requests, a server error, a cut stream"
    assert len(llm.journal(f"whole-{wire}")) == 6, "no answer that came was asked for again"
    if wire != "anthropic":  # there the server repairs the call itself
        assert "arguments" in repr(result.steps[0].results[0].content)
    stored = f"{history!r} {parts!r} {caplog.text} {result!r}"
    shown = " ".join(span.to_json() for span in spans.get_finished_spans())
    assert "Rome" in stored
    assert f"chat {agent.model.name}" in shown
    assert CANARY not in stored + shown
