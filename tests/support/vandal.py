"""Damages what a world has stored, as a broken disk or a foreign program would."""

from typing import Any

import nats

from offbook.actors.model import Stored
from offbook.actors.ports import Namespace
from offbook.adapters.nats.names import Names
from offbook.adapters.nats.streams import all_streams
from support.worlds import CatalogueEnvironment, ServerEnvironment


async def erase_record(env: CatalogueEnvironment, run: str, key: str) -> None:
    """Remove one message of a run's log."""
    if isinstance(env, ServerEnvironment):
        await _on_server(env, run, key, None)
    else:
        del env.world.space(env.namespace).log.runs[run][key]


async def overwrite_record(env: CatalogueEnvironment, run: str, key: str, data: bytes) -> None:
    """Put other bytes in the place of one message of a run's log (on a server: the newest)."""
    if isinstance(env, ServerEnvironment):
        await _on_server(env, run, key, data)
        return
    rows = env.world.space(env.namespace).log.runs[run]
    rows[key] = Stored(rows[key].seq, key, data)


async def make_anew(env: CatalogueEnvironment) -> None:
    """Delete the namespace and create it again, while clients and workers use it."""
    if not isinstance(env, ServerEnvironment):
        env.world.space(env.namespace).leases.owners.clear()
        return
    names = Names(Namespace(env.name, partitions=2, shards=1))
    connection: Any = await nats.connect(env.url)  # pyright: ignore[reportUnknownMemberType] - untyped options
    try:
        for config in all_streams(names):
            await connection.jetstream().delete_stream(config["name"])
    finally:
        await connection.close()
    await env.make_client().__aenter__()


async def _on_server(env: ServerEnvironment, run: str, key: str, data: bytes | None) -> None:
    names = Names(Namespace(env.name, partitions=2, shards=1))
    subject = names.log_prefix(run).decode() + key
    connection: Any = await nats.connect(env.url)  # pyright: ignore[reportUnknownMemberType] - untyped options
    try:
        stream = connection.jetstream()
        await stream.purge_stream(names.log_stream(run), subject=subject)
        if data is not None:
            await stream.publish(subject, data)
    finally:
        await connection.close()
