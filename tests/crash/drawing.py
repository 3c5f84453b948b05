"""Which places of a play are tried: one in fifteen, or all with OFFBOOK_CRASH=full."""

import os
import random
from collections.abc import Sequence
from typing import TypeVar

Place = TypeVar("Place")

SHARE = 1.0 if os.environ.get("OFFBOOK_CRASH") == "full" else 1 / 15


def drawn(places: Sequence[Place]) -> list[Place]:
    """Draw places anew in each run of the tests, by its seed."""
    return random.sample(places, max(1, round(SHARE * len(places))))
