"""The runs that wait, and what serves them."""

from datetime import UTC, datetime

from offbook import hook, sleep, step, workflow


@step
async def echo(payload: str) -> str:
    return payload


@workflow
async def patient(token: str) -> str:
    """Wait for a person."""
    payload: str = await hook(str, token=token)
    return await echo(payload)


@workflow
async def dormant(seconds: float) -> None:
    """Sleep for longer than anybody looks."""
    await sleep(seconds)


@workflow
async def punctual(due: datetime) -> float:
    """Sleep until a moment; return how late it woke, in seconds of the server's clock."""
    await sleep(due)
    return (datetime.now(UTC) - due).total_seconds()
