"""An order that somebody has to approve, in a FastAPI application with a page that shows it live.

    uvicorn app:app --app-dir examples/approval

and open http://127.0.0.1:8000. Stop the server at any time, start it again: the order goes on
where it was, and so does the page.
"""

import asyncio
from pathlib import Path
from uuid import uuid4

from fastapi import FastAPI
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field

import offbook
from offbook import Response, current_run, step, stream, webhook, workflow
from offbook.adapters.http import Edge, wrap

PAGE = Path(__file__).with_name("page.html")
SHELVES = 5


@step
async def pick(item: str) -> int:
    async with stream("progress") as progress:
        for shelf in range(1, SHELVES + 1):
            await asyncio.sleep(0.3)  # the work
            await progress.write({"text": f"looked for {item} on shelf {shelf} of {SHELVES}"})
    return SHELVES


@step
async def ship(item: str) -> str:
    await stream("progress").write({"text": f"{item} is on its way"})
    return f"parcel with {item}"


@workflow
async def fulfil(item: str) -> str:
    progress = stream("progress")
    await pick(item)
    back = Response(303, {"location": f"/?run={current_run().id}"})
    async with webhook(str, respond_with=back) as link:
        await progress.write({"text": "somebody has to approve", "approve": link.url})
        request = await link
    if request.payload != "answer=yes":
        await progress.write({"text": "refused"})
        return "refused"
    return await ship(item)


class Order(BaseModel):
    item: str = Field(min_length=1, max_length=80)


client = offbook.connect()
api = FastAPI()


@api.get("/")
async def page() -> FileResponse:
    return FileResponse(PAGE)


@api.post("/orders", status_code=201)
async def create_order(order: Order) -> dict[str, str]:
    run = await client.start(fulfil, order.item, id=f"order-{uuid4()}")
    return {"run": run.id}


# Without `authenticate` the edge shows runs to this machine only; webhooks are open to all who
# have their address.
app = wrap(api, Edge(client, worker=offbook.Worker(client, workflows=[fulfil])))
