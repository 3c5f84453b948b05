"""Records on their way through starts, steps, hooks and results: nothing happens to them."""

from enum import Enum, Flag
from typing import Any

import pytest
from pydantic import BaseModel, field_validator

from offbook import HookRejected, Run, continue_as_new, hook, step, workflow
from support.worlds import CatalogueEnvironment


class Speed(Enum):
    SLOW = "slow"
    FAST = "fast"


class Access(Flag):
    READ = 1
    WRITE = 2


class Parcel(BaseModel, strict=True):
    cents: int
    speed: Speed
    access: Access = Access.READ
    _stamps: list[str] = []

    @field_validator("cents")
    @classmethod
    def _tax(cls, cents: int) -> int:
        return cents + 1

    def stamp(self, text: str) -> "Parcel":
        """Stamp it, out of sight."""
        self._stamps.append(text)
        return self

    @property
    def stamps(self) -> list[str]:
        """The stamps."""
        return self._stamps


@step
async def pass_through(parcel: Parcel) -> Parcel:
    return parcel.stamp("step")


@workflow
async def forward(parcel: Parcel, *, again: bool = True) -> tuple[Parcel, list[str]]:
    parcel = await pass_through(parcel)
    if again:
        continue_as_new(parcel, again=False)
    async with hook(Parcel, token="swap") as swap:
        other = await swap
    assert other.cents == parcel.cents
    return other, parcel.stamps


async def test_model_passes_every_boundary_unchanged(env: CatalogueEnvironment) -> None:
    parcel = Parcel(cents=100, speed=Speed.FAST, access=Access.READ | Access.WRITE)
    run = await env.client.start(forward, parcel)
    await env.wait_for_hook(await _successor(env, run))
    await env.client.resume("swap", parcel)
    found, stamps = await run.result()
    assert (found, found.cents, found.stamps) == (parcel, 101, [])
    assert stamps == ["step", "step"]


async def _successor(env: CatalogueEnvironment, run: Run[Any]) -> Run[Any]:
    while (following := (await run.view()).continued_as) is None:
        await env.pause(0.1)
    return env.client.run(following)


@workflow
async def wait_for_flags() -> Access:
    return await hook(Access, token="flags")


@pytest.mark.parametrize("flags", [Access.READ | Access.WRITE, 3], ids=["record", "number"])
async def test_hook_of_flags_takes_those_that_are_combined(
    flags: Any,  # noqa: ANN401 - a flag or its number
    env: CatalogueEnvironment,
) -> None:
    run = await env.client.start(wait_for_flags)
    await env.wait_for_hook(run)
    with pytest.raises(HookRejected):
        await env.client.resume("flags", "READ")
    await env.client.resume("flags", flags)
    assert await run.result() == Access.READ | Access.WRITE
