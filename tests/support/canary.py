"""Runs that carry one secret text wherever a payload can be: `python -m support.canary …`.

The text comes by the environment, so that no command line holds it. Whoever started this looks for
it in all that it leaves behind: on the server, on the wire, in logs, spans, metrics and lists.
"""

import asyncio
import contextlib
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import nats

from offbook import (
    CancelScope,
    Client,
    Run,
    RunFailed,
    Settings,
    Worker,
    connect,
    continue_as_new,
    current_step,
    hook,
    set_attributes,
    sleep,
    start,
    step,
    stream,
    topic,
    webhook,
    workflow,
)
from offbook.actors.machine_webhooks import addresses
from offbook.adapters.http import Edge
from offbook.adapters.otel import configure

CANARY = os.environ.get("CANARY", "")
BIG = 400_000


class Odd(Exception):
    """It has an attribute and a cause that hold what nobody may see."""

    def __init__(self, text: str) -> None:
        super().__init__(f"failed with {text}")
        self.seen = text


@step(queue="far", retry=1)
async def carry(text: str, *, fails: bool = False) -> dict[str, str]:
    context = current_step()
    context.heartbeat({"detail": text})
    await stream("said").write(f"a step says {text}")
    await topic("news").write(f"all hear {text}")
    if fails or context.attempt == 1:
        raise Odd(text) from ValueError(f"the cause is {text}")
    return {text: "a key of a dict", "value": text}


@step
async def large(text: str) -> str:
    return text + "x" * BIG


@workflow
async def child(text: str) -> str:
    await sleep(timedelta(seconds=0.01))
    return f"child {text}"


@workflow
async def failing(text: str) -> None:
    await carry(text, fails=True)


@workflow
async def numbers(count: int) -> int:
    return count + 1


@workflow
async def everything(text: str, again: bool = True) -> str:  # noqa: FBT001, FBT002 - of a run
    await set_attributes(kind="public")
    found = await carry(text)
    await stream("own").write({"own": text})
    payload: Any = await hook(str, token=f"token-{text}-{again}", metadata={"about": text})
    async with webhook(respond_with="manual") as web:
        request = await web
        await request.respond(200, headers={"x-answer": text}, body=text)
    run = await start(child, text)
    told = await run.result()
    with contextlib.suppress(TimeoutError, asyncio.CancelledError):
        async with CancelScope() as scope:
            scope.cancel(f"because of {text}")
    await large(text)
    if again:
        continue_as_new(text, again=False)
    return f"{found} {payload} {told}"


async def opened(run: Run[Any], count: int) -> None:
    """Wait until hooks of a run are open."""
    async for event in run.events(follow=True):
        count -= event.type == "hook_opened"
        if not count:
            return


async def answered(client: Client, run: Run[Any]) -> None:
    """Resume a run's hook, and send a request to its webhook."""
    await opened(run, 1)
    again = "-c1-" not in run.id
    with contextlib.suppress(Exception):
        await client.resume(f"token-{CANARY}-{again}", {"not a text": CANARY})
    await client.resume(f"token-{CANARY}-{again}", f"payload {CANARY}")
    await opened(run, 2)
    (address,) = addresses(await client.history(run.id))
    asked = {"x-odd": CANARY, "x-token": CANARY}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(Edge(client))) as http:
        reply = await http.post(f"http://edge{address.url}", headers=asked, content=CANARY)
    assert (reply.status_code, reply.text) == (200, CANARY), reply.text


async def successor(client: Client, run: Run[Any]) -> Run[Any]:
    """Return the run that another one goes on as."""
    while True:
        async for summary in client.runs(workflow=everything):
            if summary.id != run.id:
                return client.run(summary.id, everything)
        await asyncio.sleep(0.05)


async def play(client: Client) -> None:
    run = await client.start(everything, CANARY, attributes={"tenant": "acme"})
    await answered(client, run)
    later = await successor(client, run)
    await answered(client, later)
    assert CANARY in await later.result()
    assert [c async for c in later.stream("said")][-1] == f"a step says {CANARY}"
    failed = await client.start(failing, CANARY)
    wrong: Any = CANARY
    odd = await client.start(numbers, wrong) if os.environ.get("ODD") else failed
    for each in (failed, odd):
        told = await asyncio.gather(each.result(), return_exceptions=True)
        assert isinstance(told[0], RunFailed)
        assert CANARY in str(told[0].cause), "the caller is told"
    waiting = await client.start(everything, CANARY, id="waiting")
    await opened(waiting, 1)
    await waiting.cancel(f"for {CANARY}")
    with contextlib.suppress(Exception):
        await waiting.result()
    await client.purge_run(failed.id)
    live = await client.start(everything, CANARY, id="live")
    await opened(live, 1)


async def overheard(url: str, path: Path, stop: asyncio.Event) -> None:
    """Keep all that goes over the wire."""
    wire: Any = await nats.connect(url)  # pyright: ignore[reportUnknownMemberType] - untyped options
    with path.open("wb") as kept:

        async def heard(message: Any) -> None:  # noqa: ANN401 - of nats-py
            kept.write(repr((message.subject, message.headers)).encode() + message.data)

        await wire.subscribe(">", cb=heard)
        await wire.flush()
        await stop.wait()
        await wire.close()


async def main(url: str, namespace: str, folder: Path) -> None:
    configure("canary", metric_interval=0.5)
    stop = asyncio.Event()
    listening = asyncio.ensure_future(overheard(url, folder / "wire", stop))
    settings = Settings(grace=1.0)
    async with (
        connect(url, namespace=namespace, settings=settings) as client,
        Worker(client, queues=["default"]),
        Worker(client, workflows=[], queues=["far"]),
    ):
        await play(client)
    stop.set()
    await listening


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
