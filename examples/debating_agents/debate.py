"""Two agents debate a motion on a topic, and a third one judges.

    python examples/debating_agents/debate.py

Each is an agent in a run of its own, and knows of the others what they say on the topic. Kill the
process in the middle, start it again with the same number, and they go on where they were. With the
key of a vendor in the environment they are real models; without, they follow a script.
"""

import asyncio
import sys
from dataclasses import dataclass
from typing import Literal, TypeAlias

import offbook
from offbook import current_run, topic, workflow
from offbook.agent import Agent, Message, ModelRequest
from offbook.agent.models import Model, Scripted, model_from_environment

MOTION = "Tea is better than coffee."
ROUNDS = 3

Side: TypeAlias = Literal["for", "against"]
ARGUMENTS: dict[Side, list[str]] = {
    "for": [
        "Tea is older, and has more kinds than anybody can count.",
        "A short cup is soon over. Tea keeps you company for a whole evening.",
        "Then sleep is a point for tea: nobody was ever kept awake by chamomile.",
    ],
    "against": [
        "Old is not good. Coffee is quick, and a short cup is enough.",
        "Evenings are for sleep. Coffee is for mornings, when there is work to do.",
        "Chamomile is no tea at all. I rest my case, and my cup.",
    ],
}


@dataclass
class Said:
    """What one of them says on the topic."""

    text: str


@dataclass
class Verdict:
    """Who has won, and why."""

    winner: Side
    why: str


def played(side: Side) -> Scripted:
    """Stand in for a model that debates: say what comes after what was said."""

    def argument(request: ModelRequest) -> str:
        mine = sum(message.role == "assistant" for message in request.messages)
        return ARGUMENTS[side][mine]

    return Scripted([argument], delay=0.02)


def verdict(request: ModelRequest) -> str:
    """Stand in for a model that judges: whoever calls tea no tea has lost."""
    lost = "no tea" in request.messages[-1].text
    return f'{{"winner": "{"for" if lost else "against"}", "why": "chamomile is tea enough"}}'


def model(script: Scripted) -> Model:
    """Return the model that the environment has a key for, or the script."""
    return model_from_environment() or script


def debater(side: Side) -> Agent[str]:
    """Make an agent for a side."""
    told = f"You debate, and are {side} the motion. Answer the other side in two sentences."
    return Agent(model(played(side)), name=f"debating.{side}", instructions=told)


debaters: dict[Side, Agent[str]] = {"for": debater("for"), "against": debater("against")}
judge = Agent(
    model(Scripted([verdict])),
    name="debating.judge",
    instructions="Judge a debate: who had the better arguments?",
    output=Verdict,
)


@workflow
async def argue(side: Side, other: Side, motion: str, room: str) -> None:
    """Speak for a side: the side that is for the motion begins, the other one answers."""
    board = topic(room, Said, author=side, authors={other})
    talk = [Message.user(f"The motion: {motion}")]
    if side == "for":
        talk = await speak(side, talk, room)
    async for said in board:
        if isinstance(said, Said):
            talk = await speak(side, [*talk, Message.user(said.text)], room)
        if sum(message.role == "assistant" for message in talk) == ROUNDS:
            break


async def speak(side: Side, talk: list[Message], room: str) -> list[Message]:
    """Let an agent say what it thinks of it, on the topic; return the whole talk."""
    result = await debaters[side].run(talk)
    await topic(room, Said, author=side).write(Said(result.text))
    return list(result.messages)


@workflow
async def chair(motion: str, room: str) -> Verdict:
    """Let both sides speak, listen to all of it, and judge."""
    me = current_run().id
    await offbook.start(argue, "for", "against", motion, room, id=f"{me}-for")
    await offbook.start(argue, "against", "for", motion, room, id=f"{me}-against")
    heard: list[str] = []
    async for chunk in topic(room, Said, author="judge", authors={"for", "against"}).chunks():
        if isinstance(chunk, offbook.Chunk):
            heard.append(f"{chunk.author}: {chunk.value.text}")
        if len(heard) == 2 * ROUNDS:
            break
    found = (await judge.run(f"The motion: {motion}\n" + "\n".join(heard))).output
    assert found is not None
    await topic(room, Said, author="judge").write(Said(f"{found.winner} wins: {found.why}"))
    return found


async def listen(client: offbook.Client, number: str) -> Verdict:
    """Open the debate, print what is said, and return the verdict."""
    room = f"debate-of-agents-{number}"
    run = await client.start(chair, MOTION, room, id=room)
    async for chunk in client.topic(room, Said).chunks():
        if isinstance(chunk, offbook.Chunk):
            print(f"{chunk.author:>8}: {chunk.value.text}", flush=True)
            if chunk.author == "judge":
                break
    return await run.result()


async def main(number: str) -> None:
    """Play it with a worker in this process."""
    async with offbook.connect() as client, offbook.Worker(client):
        print(f"the winner is {(await listen(client, number)).winner}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "1"))
