"""When a run that stands still is tried again."""

import asyncio

import pytest

from offbook.actors.parking import Parking

pytestmark = pytest.mark.virtual


async def tries(seconds: float, *, costly: bool) -> int:
    """Return how often a run is tried that parks again each time."""
    found: list[float] = []

    def again() -> None:
        found.append(asyncio.get_running_loop().time())
        parking.park("stuck", costly=costly)

    parking = Parking(again)
    parking.park("stuck", costly=costly)
    await asyncio.sleep(seconds)
    parking.drop()
    return len(found)


async def test_a_parked_run_is_tried_again_at_growing_distances() -> None:
    assert await tries(62, costly=False) == 5
    assert await tries(64, costly=False) == 6


async def test_a_body_that_held_the_event_loop_is_tried_once_a_minute() -> None:
    assert await tries(59, costly=True) == 0
    assert await tries(130, costly=True) == 2
