"""Topic groups on JetStream: each is a stream of its own."""

from typing import Any

from offbook.actors.errors import ServerUnfit
from offbook.actors.ports import TopicGroup

from .api import NAME_IN_USE, NO_STREAM, ApiError, ask, call
from .link import Link
from .names import Names
from .setup import NO_PEERS
from .streams import group_in, group_stream


class NatsGroups:
    """`offbook.actors.ports.Groups`."""

    def __init__(self, link: Link, names: Names) -> None:
        self._link = link
        self._names = names

    async def create(self, group: TopicGroup) -> TopicGroup:
        """Create a group, or leave it as it is; return what is there.

        Raises:
            ServerUnfit: there are fewer servers than replicas.
        """
        stream = self._names.group(group.name)
        try:
            info = await self._create(stream, group)
        except ApiError as error:
            if error.err_code != NAME_IN_USE:
                raise error.typed() from error
            info = await ask(self._link, f"STREAM.INFO.{stream}")
        return group_in(group.name, info["config"])

    async def _create(self, stream: str, group: TopicGroup) -> dict[str, Any]:
        try:
            return await call(
                self._link, f"STREAM.CREATE.{stream}", group_stream(self._names, group)
            )
        except ApiError as error:
            if error.err_code not in NO_PEERS:
                raise
            found = f"not possible for {group.replicas} ({error.description})"
            raise ServerUnfit("replicas", found, "as many servers as replicas") from error

    async def get(self, name: str) -> TopicGroup | None:
        """Return a group."""
        try:
            info = await call(self._link, f"STREAM.INFO.{self._names.group(name)}")
        except ApiError as error:
            if error.err_code == NO_STREAM:
                return None
            raise error.typed() from error
        return group_in(name, info["config"])
