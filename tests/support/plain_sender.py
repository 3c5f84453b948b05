"""Resumes a hook without any workflow at hand: what a plain process would run."""

import asyncio
import sys

import offbook


async def send(client: offbook.Client, token: str) -> None:
    await client.resume(token, {"by": "ann"}, id="plain")


async def main(url: str, namespace: str, token: str) -> None:
    async with offbook.connect(url, namespace=namespace) as client:
        await send(client, token)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
