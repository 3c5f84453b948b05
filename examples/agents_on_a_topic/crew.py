"""Three agents on one topic: a planner, a worker, and a supervisor who ends what goes wrong.

    python examples/agents_on_a_topic/crew.py

Each is a run of its own. They say everything on a topic, and read there what the others say. Kill
the process in the middle, start it again with the same number, and they go on where they were. The
models follow a script, so no key is needed; put real ones in their place.
"""

import asyncio
import sys
from dataclasses import dataclass

import offbook
from offbook import current_run, topic, workflow
from offbook.agent import Agent, ModelRequest
from offbook.agent.models import Scripted

GOAL = "Tell me about tea."


@dataclass
class Post:
    """What one of them says to another. kind: task, result, summary or stop."""

    to: str
    kind: str
    text: str


@dataclass
class Tasks:
    """What the planner answers."""

    tasks: list[str]


@dataclass
class Verdict:
    """What the supervisor thinks of a result."""

    good: bool
    why: str


def find_out(request: ModelRequest) -> str:
    """Stand in for a model that knows everything."""
    task = request.messages[-1].text
    return f"Of {task.removesuffix('?')} I know that it is old and good. So say all who drink it."


def judge(request: ModelRequest) -> str:
    """Stand in for a model that does not want to hear of coffee."""
    bad = "coffee" in request.messages[-1].text
    return '{"good": false, "why": "nobody asked"}' if bad else '{"good": true, "why": "fine"}'


planner = Agent(
    Scripted(
        {
            "Sum up": ["Tea is old and good. Coffee is another matter."],
            "": [{"tasks": ["where tea comes from?", "how tea is made?", "what coffee costs?"]}],
        },
        delay=0.05,
    ),
    name="crew.planner",
    instructions="Break a goal down into tasks.",
    output=Tasks,
)
writer = Agent(Scripted(["Tea is old and good."], delay=0.05), name="crew.writer")
worker = Agent(
    Scripted([find_out], delay=0.05), name="crew.worker", instructions="Find out what is asked."
)
supervisor = Agent(
    Scripted([judge]),
    name="crew.supervisor",
    instructions="Judge each result. What is off the point ends the work.",
    output=Verdict,
)


@workflow
async def plan(goal: str, room: str) -> str:
    """Post tasks, gather the results that the supervisor passes on, and sum them up."""
    board = topic(room, Post, author="planner", authors={"supervisor"})
    tasks = (await planner.run(goal)).output or Tasks([])
    for task in tasks.tasks:
        await board.write(Post("worker", "task", task))
    results: list[str] = []
    async for post in board:
        if isinstance(post, Post):
            results.append(post.text)
        if len(results) == len(tasks.tasks):
            break
    return (await writer.run(f"Sum up: {' '.join(results)}")).text


@workflow
async def work(room: str) -> None:
    """Do each task that is posted, one after another."""
    board = topic(room, Post, author="worker", authors={"planner"})
    async for post in board:
        if isinstance(post, Post):
            found = await worker.run(post.text)
            await board.write(Post("supervisor", "result", found.text))


@workflow
async def supervise(goal: str, room: str) -> str:
    """Start the others, judge what they find, and end them: when it is no good, or all is done."""
    me = current_run().id
    planning = await offbook.start(plan, goal, room, id=f"{me}-planner")
    working = await offbook.start(work, room, id=f"{me}-worker")
    board = topic(room, Post, author="supervisor")
    done = asyncio.create_task(planning.result())
    watch = asyncio.create_task(judge_all(room))
    await asyncio.wait({done, watch}, return_when=asyncio.FIRST_COMPLETED)
    ended = f"stopped: {watch.result()}" if watch.done() else done.result()
    for run in (planning, working):
        await run.cancel(ended)
    await board.write(Post("all", "stop", ended))
    for task in (done, watch):
        task.cancel()
    return ended


async def judge_all(room: str) -> str:
    """Pass on what is good; return what is wrong with the first result that is not."""
    board = topic(room, Post, author="supervisor", authors={"worker"})
    async for post in board:
        assert isinstance(post, Post)
        verdict = (await supervisor.run(f"Is this good? {post}")).output
        if verdict is not None and not verdict.good:
            return verdict.why
        await board.write(Post("planner", "result", post.text))
    raise AssertionError("a topic has no end")


async def watch(client: offbook.Client, number: str) -> str:
    """Start the supervisor, print what is said, and return how it ended."""
    room = f"crew-{number}"
    run = await client.start(supervise, GOAL, room, id=room)
    async for chunk in client.topic(room, Post).chunks():
        if isinstance(chunk, offbook.Chunk):
            post = chunk.value
            print(f"{chunk.author:>10} to {post.to}: {post.text}", flush=True)
            if post.kind == "stop":
                break
    return await run.result()


async def main(number: str) -> None:
    """Play it with a worker in this process."""
    async with offbook.connect() as client, offbook.Worker(client):
        print(await watch(client, number))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "1"))
