"""The checkpointer: LangGraph's `BaseCheckpointSaver` on the shelves of a namespace."""

import asyncio
import random
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
    get_checkpoint_id,
    get_checkpoint_metadata,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

from offbook.actors.client import Client
from offbook.actors.errors import InvalidOption
from offbook.actors.values import one_of

from . import keys
from .records import Head, History, Records
from .store import Store

T = TypeVar("T")

STRATEGIES = ("keep_latest", "delete")


class OffbookSaver(BaseCheckpointSaver[str]):
    """A checkpointer for graphs: `graph = builder.compile(checkpointer=OffbookSaver(client))`.

    client: an open one; its namespace holds the checkpoints, beside the runs. serde: LangGraph's
    serializer (default: its own).

    The methods that are not async work in threads other than that of the client's event loop,
    which must be running; `saver_in_thread` has one of its own.
    """

    def __init__(self, client: Client, *, serde: SerializerProtocol | None = None) -> None:
        super().__init__(serde=serde)
        self._store = Store(client)
        try:
            self._loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            self._loop = None

    @property
    def _records(self) -> Records:
        # Made anew: a clone with an allowlist has a serializer of its own.
        return Records(self._store, self.serde)

    def get_next_version(self, current: str | None, channel: None) -> str:
        """Return a version above another; no two branches get the same one."""
        del channel
        count = int(str(current).partition(".")[0]) + 1 if current is not None else 1
        return f"{count:032}.{random.random():016}"  # noqa: S311 - to tell branches apart

    # Async

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return a checkpoint: the newest of its namespace, unless the config names one."""
        thread, namespace = _place(config)
        shelf, chosen = keys.token(thread), get_checkpoint_id(config)
        if not chosen:
            found = await self._store.keys(shelf, keys.checkpoints_of(namespace))
            if not found:
                return None
            chosen = max(map(keys.id_in, found))
        return await self._records.tuple_of(shelf, namespace, chosen)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - LangGraph says so
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """Yield checkpoints, newest first; without a config those of all threads, which is slow."""
        until = get_checkpoint_id(before) if before else None
        left = -1 if limit is None else limit
        for head in await self._heads(config):
            if left == 0:
                return
            if until and head.id >= until:
                continue
            if filter and not _fits(self._records.metadata(head), filter):
                continue
            found = await self._records.tuple_of(head.shelf, head.namespace, head.id)
            if found is not None:
                left -= 1
                yield found

    async def _heads(self, config: RunnableConfig | None) -> list[Head]:
        """Return the checkpoints that a config means, newest first."""
        known = (config or {}).get("configurable", {})
        namespace, chosen = known.get("checkpoint_ns"), known.get("checkpoint_id")
        shelves = [keys.token(str(known["thread_id"]))] if known else await self._store.shelves()
        under = keys.CHECKPOINTS if namespace is None else keys.checkpoints_of(namespace)
        found = [head for shelf in shelves for head in await self._records.heads(shelf, under)]
        found.sort(key=lambda head: head.id, reverse=True)
        return [head for head in found if not chosen or head.id == chosen]

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Keep a checkpoint, with the values of the channels that have changed."""
        thread, namespace = _place(config)
        parent = get_checkpoint_id(config)
        told = get_checkpoint_metadata(config, metadata)
        values = checkpoint["channel_values"]
        changed = {name: (v, values[name]) for name, v in new_versions.items() if name in values}
        await self._records.put_values(keys.token(thread), namespace, changed)
        await self._records.put(thread, namespace, parent, checkpoint, told)
        return _config(thread, namespace, checkpoint["id"])

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Keep what a task wrote after a checkpoint; written again, only marks are replaced."""
        thread, namespace = _place(config)
        after = str(config.get("configurable", {})["checkpoint_id"])
        indexed = [(WRITES_IDX_MAP.get(w[0], n), *w) for n, w in enumerate(writes)]
        shelf = keys.token(thread)
        await self._records.put_writes(shelf, namespace, after, task_id, task_path, indexed)

    async def adelete_thread(self, thread_id: str) -> None:
        """Remove all of a thread."""
        await self._store.clear(keys.token(thread_id))

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Remove the checkpoints that these runs of graphs have made; it looks at all threads."""
        gone = set(run_ids)
        for shelf in await self._store.shelves() if gone else []:
            heads = await self._records.heads(shelf, keys.CHECKPOINTS)
            kept = [head for head in heads if head.run not in gone]
            await self._records.keep(shelf, heads, kept)

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy all of a thread to another one."""
        await self._records.copy(keys.token(source_thread_id), target_thread_id)

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Remove all but the newest checkpoint of each namespace, and what it is made from.

        strategy: "keep_latest", or "delete", which removes everything.

        Raises:
            InvalidOption: the strategy is another one.
        """
        one_of("strategy", strategy, STRATEGIES)
        for thread in thread_ids:
            if strategy == "delete":
                await self.adelete_thread(thread)
                continue
            shelf = keys.token(thread)
            heads = await self._records.heads(shelf, keys.CHECKPOINTS)
            await self._records.keep(shelf, heads, await self._needed(shelf, heads))

    async def _needed(self, shelf: str, heads: Sequence[Head]) -> list[Head]:
        newest = {head.namespace: head for head in sorted(heads, key=lambda head: head.id)}
        needed = list(newest.values())
        for head in newest.values():
            walk = History(self._records, shelf, head, self._records.deltas(head))
            needed += [ancestor async for ancestor in walk.ancestors()]
        return needed

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Return what was written to channels since their last whole value, oldest first."""
        thread, namespace = _place(config)
        shelf, chosen = keys.token(thread), get_checkpoint_id(config)
        head = await self._records.head(shelf, namespace, chosen) if chosen else None
        walk = History(self._records, shelf, head, channels)
        async for _ in walk.ancestors():
            pass
        return walk.found()

    # In threads

    def _wait(self, job: Coroutine[Any, Any, T]) -> T:
        loop = self._loop
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        if loop is None or not loop.is_running() or here is loop:
            job.close()
            cure = "used by its async methods here, or made by saver_in_thread"
            raise InvalidOption("a sync method of the saver", type(self).__name__, cure)
        return asyncio.run_coroutine_threadsafe(job, loop).result()

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """See `aget_tuple`."""
        return self._wait(self.aget_tuple(config))

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - LangGraph says so
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """See `alist`."""
        found = self.alist(config, filter=filter, before=before, limit=limit)
        yield from self._wait(_all(found))

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """See `aput`."""
        return self._wait(self.aput(config, checkpoint, metadata, new_versions))

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """See `aput_writes`."""
        self._wait(self.aput_writes(config, writes, task_id, task_path))

    def delete_thread(self, thread_id: str) -> None:
        """See `adelete_thread`."""
        self._wait(self.adelete_thread(thread_id))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """See `adelete_for_runs`."""
        self._wait(self.adelete_for_runs(run_ids))

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """See `acopy_thread`."""
        self._wait(self.acopy_thread(source_thread_id, target_thread_id))

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """See `aprune`."""
        self._wait(self.aprune(thread_ids, strategy=strategy))

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """See `aget_delta_channel_history`."""
        return self._wait(self.aget_delta_channel_history(config=config, channels=channels))


def _place(config: RunnableConfig) -> tuple[str, str]:
    known = config.get("configurable", {})
    return str(known["thread_id"]), str(known.get("checkpoint_ns", ""))


def _config(thread: str, namespace: str, checkpoint: str) -> RunnableConfig:
    known = {"thread_id": thread, "checkpoint_ns": namespace, "checkpoint_id": checkpoint}
    return {"configurable": known}


def _fits(metadata: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return all(metadata.get(name) == value for name, value in wanted.items())


async def _all(found: AsyncIterator[CheckpointTuple]) -> "list[CheckpointTuple]":
    return [one async for one in found]
