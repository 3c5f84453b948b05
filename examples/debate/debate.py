"""Two workflows that debate on a topic until one of them has nothing left to say.

    python examples/debate/debate.py

Each is a run of its own and reads what the other says from the topic. What a body reads is
recorded: kill the process in the middle, start it again with the same number, and they go on.
"""

import asyncio
import sys
from dataclasses import dataclass

import offbook
from offbook import step, topic, workflow

ARGUMENTS = {
    "tea": (
        "Tea is older.",
        "Tea has more kinds than anybody can count.",
        "Nobody was ever kept awake by chamomile.",
    ),
    "coffee": (
        "Old is not good. Coffee is quick.",
        "Coffee smells better than all of them together.",
    ),
}


@dataclass
class Said:
    """One turn of the debate; `text` is None where somebody gives in."""

    text: str | None


@step
async def think(side: str, number: int) -> str | None:
    """Stand in for a model: say the next argument, or nothing more."""
    await asyncio.sleep(0.2)
    arguments = ARGUMENTS[side]
    return arguments[number] if number < len(arguments) else None


@workflow
async def debate(side: str, other: str, room: str, *, first: bool) -> str:
    channel = topic(room, Said, author=side, authors={other})
    number = 0
    if first:
        await channel.write(Said(await think(side, number)))
        number += 1
    async for said in channel:
        assert isinstance(said, Said)
        if said.text is None:
            return side
        mine = await think(side, number)
        number += 1
        await channel.write(Said(mine))
        if mine is None:
            return other
    raise AssertionError("a topic has no end")


async def hold(client: offbook.Client, number: str) -> str:
    """Let both debate, print what they say, and return who won."""
    room = f"debate-{number}"
    for side, other in (("tea", "coffee"), ("coffee", "tea")):
        await client.start(debate, side, other, room, first=side == "tea", id=f"{room}-{side}")
    async for chunk in client.topic(room, Said).chunks():
        if isinstance(chunk, offbook.Chunk):
            print(f"{chunk.author:>6}: {chunk.value.text or 'You have a point.'}")
            if chunk.value.text is None:
                break
    tea, coffee = [await client.run(f"{room}-{side}", debate).result() for side in ARGUMENTS]
    if tea != coffee:
        raise AssertionError("they do not agree who won")
    return tea


async def main(number: str) -> None:
    async with offbook.connect() as client, offbook.Worker(client, workflows=[debate]):
        print(f"{await hold(client, number)} wins")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "1"))
