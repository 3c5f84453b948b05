"""What a body reads of a topic is recorded in pieces that a record can hold."""

import pytest

from offbook import topic, workflow
from offbook.actors.chunks import TOPIC_CHUNK_BYTES
from offbook.testing import Environment

pytestmark = pytest.mark.virtual
COUNT = 90
"""Of the largest chunks: together they are more than one payload may be."""


@workflow
async def measures(name: str) -> list[int]:
    found: list[int] = []
    async for chunk in topic(name, bytes, follow=False):
        assert isinstance(chunk, bytes)
        found.append(len(chunk))
    return found


async def test_a_body_reads_a_topic_of_the_largest_chunks() -> None:
    size = TOPIC_CHUNK_BYTES - 5  # so many say how long it is
    async with Environment() as env:
        large = env.client.topic("large")
        for _ in range(COUNT):
            await large.write(b"x" * size)
        run = await env.client.start(measures, "large")
        assert await run.result() == [size] * COUNT
