"""Checkpoints of graphs: LangGraph's own conformance suite, and graphs that are cut off."""

import asyncio
import operator
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.runnables import RunnableConfig  # noqa: TC002 - as clear as any other
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.conformance import (  # pyright: ignore[reportMissingTypeStubs]
    checkpointer_test,
    validate,
)
from langgraph.graph import END, START, StateGraph  # pyright: ignore[reportMissingTypeStubs]
from langgraph.types import Command, interrupt

import offbook
from offbook import InvalidOption, SealBroken
from offbook.actors.client import Client
from offbook.adapters.cipher import AesGcm, KeyRing
from offbook.adapters.langgraph import OffbookSaver, saver_in_thread
from offbook.testing import Environment
from support.servers import NatsServer


class State(TypedDict):
    said: Annotated[list[str], operator.add]


@asynccontextmanager
async def opened(kind: str, url: str, namespace: str) -> AsyncGenerator[Client]:
    """An open client of a real server, or of a world in memory."""
    if kind == "memory":
        async with Environment(workers=0) as env:
            yield env.client
    else:
        async with offbook.connect(url, namespace=namespace) as client:
            yield client


@pytest.mark.parametrize("kind", ["memory", "nats"])
async def test_langgraph_finds_it_conforming(kind: str, nats_url: str, namespace: str) -> None:
    async with opened(kind, nats_url, namespace) as client:

        @checkpointer_test(name=f"offbook {kind}")
        async def saver() -> AsyncIterator[OffbookSaver]:
            yield OffbookSaver(client)

        report = await validate(saver)
    failures = [line for result in report.results.values() for line in result.failures]
    assert not failures, "\n".join(failures)
    assert report.passed_all()
    assert all(result.passed for result in report.results.values()), report.results


def conversation(log: list[str]) -> Any:  # noqa: ANN401 - its types are partly unknown
    async def greet(_state: State) -> dict[str, Any]:
        log.append("greet")
        return {"said": ["hello"]}

    async def ask(state: State) -> dict[str, Any]:
        log.append("ask")
        name = interrupt("Who are you?")
        return {"said": [f"I am {name}", f"{len(state['said'])} before"]}

    graph: Any = StateGraph(State)
    graph.add_node("greet", greet)
    graph.add_node("ask", ask)
    graph.add_edge(START, "greet")
    graph.add_edge("greet", "ask")
    graph.add_edge("ask", END)
    return graph


async def test_a_graph_goes_on_in_another_process(nats_url: str, namespace: str) -> None:
    config: RunnableConfig = {"configurable": {"thread_id": "chat 7/ä"}}
    log: list[str] = []
    async with offbook.connect(nats_url, namespace=namespace) as client:
        graph = conversation(log).compile(checkpointer=OffbookSaver(client))
        stopped = await graph.ainvoke({"said": []}, config)
        assert stopped["__interrupt__"][0].value == "Who are you?"
    async with offbook.connect(nats_url, namespace=namespace) as client:
        graph = conversation(log).compile(checkpointer=OffbookSaver(client))
        done = await graph.ainvoke(Command(resume="Ada"), config)
        assert done["said"] == ["hello", "I am Ada", "1 before"]
        assert log == ["greet", "ask", "ask"]
        states = [state async for state in graph.aget_state_history(config)]
        assert [len(state.values["said"]) for state in states] == [3, 1, 0, 0]
        again = await graph.ainvoke(None, states[1].config)
        assert again["__interrupt__"][0].value == "Who are you?"


async def test_checkpoints_are_sealed_with_the_keys_of_the_client(
    nats_url: str, namespace: str
) -> None:
    cipher = AesGcm(KeyRing.of({"k1": os.urandom(32)}), require=True)
    config: RunnableConfig = {"configurable": {"thread_id": "secret"}}
    # Three letters may stand by chance in a megabyte of what is sealed.
    text, name = "what nobody may read " * 20_000, "Augusta Ada King"
    async with offbook.connect(nats_url, namespace=namespace, cipher=cipher) as client:
        graph = conversation([]).compile(checkpointer=OffbookSaver(client))
        await graph.ainvoke({"said": [text]}, config)
        done = await graph.ainvoke(Command(resume=name), config)
        assert done["said"] == [text, "hello", f"I am {name}", "2 before"]
    async with offbook.connect(nats_url, namespace=namespace) as other:
        shelves = other.backend.shelves
        kept = await shelves.get("secret", await shelves.keys("secret"))
        assert len(kept) > 10
        assert not any(b"nobody" in data or name.encode() in data for data in kept.values())
        swapped = [key for key in kept if key.startswith("v.")][:2]
        await shelves.put("secret", swapped[0], kept[swapped[1]])
    async with offbook.connect(nats_url, namespace=namespace, cipher=cipher) as client:
        with pytest.raises(SealBroken):
            await client.backend.shelves.get("secret", swapped)


async def test_large_values_and_what_is_pruned(nats_url: str, namespace: str) -> None:
    async with offbook.connect(nats_url, namespace=namespace) as client:
        saver = OffbookSaver(client)
        graph = conversation([]).compile(checkpointer=saver)
        config: RunnableConfig = {"configurable": {"thread_id": "big"}}
        big = "ä" * 700_000
        await graph.ainvoke({"said": [big]}, config)
        assert (await graph.aget_state(config)).values["said"] == [big, "hello"]
        shelves = client.backend.shelves
        before = await shelves.keys("big")
        await saver.aprune(["big"])
        after = await shelves.keys("big")
        assert set(after) < set(before)
        assert (await graph.aget_state(config)).values["said"] == [big, "hello"]
        await saver.acopy_thread("big", "copy")
        assert len(await shelves.keys("copy")) == len(after)
        await saver.adelete_thread("big")
        assert await shelves.keys("big") == []
        copied = await graph.aget_state({"configurable": {"thread_id": "copy"}})
        assert copied.values["said"] == [big, "hello"]
        done = await graph.ainvoke(Command(resume="Bo"), {"configurable": {"thread_id": "copy"}})
        assert done["said"][2:] == ["I am Bo", "2 before"]


def test_a_program_without_a_loop(nats_server: NatsServer, namespace: str) -> None:
    config: RunnableConfig = {"configurable": {"thread_id": "t"}}

    def add(_state: State) -> dict[str, Any]:
        return {"said": ["added"]}

    builder: Any = StateGraph(State)
    builder.add_node("add", add)
    builder.add_edge(START, "add")
    for before in (0, 1):
        client = offbook.connect(nats_server.url, namespace=namespace)
        with saver_in_thread(client) as saver:
            graph = builder.compile(checkpointer=saver)
            assert graph.invoke({"said": []}, config)["said"] == ["added"] * (before + 1)
            assert len(list(graph.get_state_history(config))) == 3 * (before + 1)
        assert not client.is_open


async def test_sync_methods_belong_into_threads() -> None:
    async with Environment(workers=0) as env:
        saver = OffbookSaver(env.client)
        config: RunnableConfig = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
        with pytest.raises(InvalidOption, match="async methods"):
            saver.get_tuple(config)
        stored = await asyncio.to_thread(saver.put, config, empty_checkpoint(), {}, {})
        found = await asyncio.to_thread(saver.get_tuple, stored)
        assert found is not None
        with pytest.raises(InvalidOption, match="strategy"):
            await saver.aprune(["t"], strategy="keep_some")
        odd: RunnableConfig = {"configurable": {"thread_id": "t", "checkpoint_id": "x" * 200}}
        with pytest.raises(InvalidOption, match="checkpoint_id"):
            await saver.aget_tuple(odd)
