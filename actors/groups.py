"""Topic groups: topics with limits and copies of their own."""

from dataclasses import fields

from .again import patiently
from .errors import InvalidOption, TopicGroupMismatch, TopicGroupMissing
from .names import check_name, group_of
from .options import Duration, seconds
from .ports import Backend, Channel, TopicGroup
from .values import whole

WEEK = 7 * 86_400.0
"""How long a topic keeps its messages, unless its group says otherwise; in seconds."""

_MOST = 2**62
_REPLICAS = (1, 3, 5)


def make_group(
    name: str,
    *,
    keep: Duration | None,
    max_messages: int | None,
    max_bytes: int | None,
    replicas: int | None,
) -> TopicGroup:
    """Return a group, checked.

    Raises:
        InvalidName, InvalidOption: one of them has a value that it cannot have.
    """
    check_name("group", name)
    for field, value in (("max_messages", max_messages), ("max_bytes", max_bytes)):
        if value is not None:
            whole(field, value, 1, _MOST)
    if replicas is not None and replicas not in _REPLICAS:
        raise InvalidOption("replicas", replicas, "1, 3, 5 or None")
    age = None if keep is None else seconds("keep", keep)
    if age is not None and age < 1:
        raise InvalidOption("keep", keep, "a second or more, or None")
    return TopicGroup(name, age, max_messages, max_bytes, replicas)


async def create_group(backend: Backend, group: TopicGroup) -> None:
    """Create a group; where it is there, check that it has these settings.

    Raises:
        TopicGroupMismatch: it has others.
    """
    found = await patiently(lambda: backend.groups.create(group), "creating a topic group")
    for setting in (f.name for f in fields(group)):
        asked, has = getattr(group, setting), getattr(found, setting)
        if asked != has and not (setting == "replicas" and asked is None):
            raise TopicGroupMismatch(group.name, setting, has, asked)


async def check_group(backend: Backend, channel: Channel) -> None:
    """Check that the group of a topic is there.

    Raises:
        TopicGroupMissing: it is not. Unsure: nobody said so.
    """
    group = "" if channel.run else group_of(channel.name)
    if group and await backend.groups.get(group) is None:
        raise TopicGroupMissing(channel.name, group)
