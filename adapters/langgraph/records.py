"""Checkpoints as they are stored, and the way from one to those before it."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import msgpack
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
    PendingWrite,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

from offbook.actors.errors import PayloadMismatch

from . import keys
from .store import Store

Typed = tuple[str, bytes]

_COUNTERS = "counters_since_delta_snapshot"


@dataclass(frozen=True, slots=True)
class Head:
    """A checkpoint without the values of its channels. `run`: of the graph that made it."""

    shelf: str
    thread: str
    namespace: str
    id: str
    parent: str | None
    run: str | None
    checkpoint: Typed
    metadata: Typed

    def pack(self) -> bytes:
        """Return it as it is stored."""
        fields = [self.thread, self.namespace, self.id, self.parent, self.run]
        packed: bytes = msgpack.packb([1, *fields, self.checkpoint, self.metadata])
        return packed

    @classmethod
    def unpack(cls, shelf: str, data: bytes) -> "Head":
        """Return what was stored.

        Raises:
            PayloadMismatch: it is of another version of offbook.
        """
        version, *fields = msgpack.unpackb(data)
        if version != 1:
            raise PayloadMismatch(f"{shelf}: a checkpoint", "version 1", f"version {version}")
        return cls(shelf, *fields)

    def config(self, checkpoint: str) -> RunnableConfig:
        """Return the config of a checkpoint in its namespace."""
        known = {"thread_id": self.thread, "checkpoint_ns": self.namespace}
        return {"configurable": known | {"checkpoint_id": checkpoint}}


class Records:
    """Reads and writes what belongs to checkpoints. `serde` is LangGraph's."""

    def __init__(self, store: Store, serde: SerializerProtocol) -> None:
        self._store = store
        self._serde = serde

    def _load(self, typed: Sequence[Any]) -> Any:  # noqa: ANN401 - any value of a graph
        return self._serde.loads_typed((typed[0], typed[1]))

    def _packed(self, value: object) -> bytes:
        packed: bytes = msgpack.packb(self._serde.dumps_typed(value))
        return packed

    # Writing

    async def put(
        self,
        thread: str,
        namespace: str,
        parent: str | None,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
    ) -> None:
        """Keep a checkpoint; the values of its channels must be there."""
        bare = {name: value for name, value in checkpoint.items() if name != "channel_values"}
        head = Head(
            keys.token(thread),
            thread,
            namespace,
            checkpoint["id"],
            parent,
            metadata.get("run_id"),
            self._serde.dumps_typed(bare),
            self._serde.dumps_typed(metadata),
        )
        await self._store.put(head.shelf, keys.checkpoint_key(namespace, head.id), head.pack())

    async def put_values(
        self, shelf: str, namespace: str, changed: Mapping[str, tuple[object, Any]]
    ) -> None:
        """Keep the values of channels, each in its version."""
        puts = [
            self._store.put(
                shelf,
                keys.value_key(namespace, channel, version),
                self._packed(value),
                once=True,
            )
            for channel, (version, value) in changed.items()
        ]
        await asyncio.gather(*puts)

    async def put_writes(  # noqa: PLR0913, PLR0917 - all that tells writes apart
        self,
        shelf: str,
        namespace: str,
        after: str,
        task: str,
        path: str,
        writes: Iterable[tuple[int, str, Any]],
    ) -> None:
        """Keep what a task wrote; marks, which have an index below 0, replace earlier ones."""
        puts = [
            self._store.put(
                shelf,
                keys.write_key(namespace, after, task, index),
                msgpack.packb([path, task, index, channel, *self._serde.dumps_typed(value)]),
                once=index >= 0,
            )
            for index, channel, value in writes
        ]
        await asyncio.gather(*puts)

    # Reading

    async def heads(self, shelf: str, under: str) -> list[Head]:
        """Return the checkpoints below a key."""
        found = await self._store.get(shelf, [under])
        return [Head.unpack(shelf, data) for data in found.values()]

    async def head(self, shelf: str, namespace: str, checkpoint: str) -> Head | None:
        """Return one checkpoint."""
        key = keys.checkpoint_key(namespace, checkpoint)
        found = await self._store.get(shelf, [key])
        return Head.unpack(shelf, found[key]) if key in found else None

    async def with_writes(
        self, shelf: str, namespace: str, checkpoint: str
    ) -> tuple[Head, list[PendingWrite]] | None:
        """Return one checkpoint, and what was written after it."""
        key = keys.checkpoint_key(namespace, checkpoint)
        found = await self._store.get(shelf, [key, keys.writes_of(namespace, checkpoint)])
        data = found.pop(key, None)
        if data is None:
            return None
        writes = sorted((msgpack.unpackb(one) for one in found.values()), key=lambda w: w[:3])
        pending = [(w[1], w[3], self._load(w[4:])) for w in writes]
        return Head.unpack(shelf, data), pending

    async def tuple_of(self, shelf: str, namespace: str, checkpoint: str) -> CheckpointTuple | None:
        """Return a checkpoint with all that belongs to it."""
        found = await self.with_writes(shelf, namespace, checkpoint)
        if found is None:
            return None
        head, pending = found
        bare = self.checkpoint(head)
        versions = bare["channel_versions"]
        whole = cast("Checkpoint", {**bare, "channel_values": await self.values(head, versions)})
        parent = None if head.parent is None else head.config(head.parent)
        told = cast("CheckpointMetadata", self.metadata(head))
        return CheckpointTuple(head.config(head.id), whole, told, parent, pending)

    def checkpoint(self, head: Head) -> dict[str, Any]:
        """Return a checkpoint without the values of its channels."""
        found: dict[str, Any] = self._load(head.checkpoint)
        return found

    def metadata(self, head: Head) -> dict[str, Any]:
        """Return what is told of a checkpoint."""
        found: dict[str, Any] = self._load(head.metadata)
        return found

    def deltas(self, head: Head) -> list[str]:
        """Return the channels that are kept as what was written to them."""
        return list(self.metadata(head).get(_COUNTERS) or ())

    async def values(self, head: Head, versions: Mapping[str, object]) -> dict[str, Any]:
        """Return the values of channels, as far as there are any."""
        wanted = {
            keys.value_key(head.namespace, channel, version): channel
            for channel, version in versions.items()
        }
        found = await self._store.get(head.shelf, list(wanted)) if wanted else {}
        return {wanted[key]: self._load(msgpack.unpackb(data)) for key, data in found.items()}

    # Removing and copying

    async def keep(self, shelf: str, heads: Iterable[Head], kept: Iterable[Head]) -> None:
        """Remove all checkpoints but some, their writes, and values that no other one has."""
        staying = {(head.namespace, head.id): head for head in kept}
        going = [head for head in heads if (head.namespace, head.id) not in staying]
        if not going:
            return
        used = {key for head in staying.values() for key in self._value_keys(head)}
        values = {key for head in going for key in self._value_keys(head)} - used
        for head in going:
            below = keys.writes_of(head.namespace, head.id)
            await self._store.remove(shelf, [keys.checkpoint_key(head.namespace, head.id), below])
        await self._store.remove(shelf, sorted(values))

    def _value_keys(self, head: Head) -> list[str]:
        versions: dict[str, Any] = self.checkpoint(head)["channel_versions"]
        return [keys.value_key(head.namespace, name, version) for name, version in versions.items()]

    async def copy(self, shelf: str, thread: str) -> None:
        """Copy a shelf to that of another thread; the checkpoints last, so that none lacks any."""
        target = keys.token(thread)
        values = await self._store.get(shelf, [keys.VALUES, keys.WRITES])
        puts = (self._store.put(target, key, value) for key, value in values.items())
        await asyncio.gather(*puts)
        for head in sorted(await self.heads(shelf, keys.CHECKPOINTS), key=lambda head: head.id):
            moved = replace(head, shelf=target, thread=thread)
            key = keys.checkpoint_key(head.namespace, head.id)
            await self._store.put(target, key, moved.pack())


class History:
    """The way back from a checkpoint, until each of some channels has a whole value."""

    def __init__(
        self, records: Records, shelf: str, head: Head | None, channels: Sequence[str]
    ) -> None:
        self._records = records
        self._shelf = shelf
        self._head = head
        self._channels = list(channels)
        self._writes: dict[str, list[PendingWrite]] = {name: [] for name in channels}
        self._seeds: dict[str, Any] = {}

    async def ancestors(self) -> AsyncIterator[Head]:
        """Yield the checkpoints on the way."""
        head = self._head
        while head is not None and head.parent is not None and self._open:
            found = await self._records.with_writes(self._shelf, head.namespace, head.parent)
            if found is None:
                return
            head, writes = found
            await self._take(head, writes)
            yield head

    @property
    def _open(self) -> list[str]:
        return [name for name in self._channels if name not in self._seeds]

    async def _take(self, head: Head, writes: Sequence[PendingWrite]) -> None:
        open_ = self._open
        for write in reversed(writes):
            if write[1] in open_:
                self._writes[write[1]].append(write)
        versions = self._records.checkpoint(head)["channel_versions"]
        wanted = {name: versions[name] for name in open_ if name in versions}
        self._seeds |= await self._records.values(head, wanted)

    def found(self) -> dict[str, DeltaChannelHistory]:
        """Return writes, oldest first, and the value that they follow, for each channel."""
        return {name: self._of(name) for name in self._channels}

    def _of(self, name: str) -> DeltaChannelHistory:
        entry: DeltaChannelHistory = {"writes": self._writes[name][::-1]}
        if name in self._seeds:
            entry["seed"] = self._seeds[name]
        return entry
