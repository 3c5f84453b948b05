"""Frames as somebody may leave them who can write to the server and has no key."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from offbook.actors.errors import KeyMissing, SealBroken, SealMissing
from offbook.adapters.cipher import AesGcm

Place = tuple[str, str, str]


@dataclass(frozen=True)
class Sealed:
    """A frame, where it belongs, and what is in it."""

    place: Place
    frame: bytes
    data: bytes


Trick = Callable[[random.Random, Sealed, Sealed], tuple[Place, bytes]]


def _flipped(rng: random.Random, one: Sealed, _other: Sealed) -> tuple[Place, bytes]:
    changed = bytearray(one.frame)
    at = rng.randrange(len(changed))
    changed[at] ^= 1 << rng.randrange(8)
    return one.place, bytes(changed)


def _cut(rng: random.Random, one: Sealed, _other: Sealed) -> tuple[Place, bytes]:
    start, end = sorted(rng.sample(range(len(one.frame) + 1), 2))
    return one.place, one.frame[start:end] if end - start < len(one.frame) else one.frame[1:]


def _longer(rng: random.Random, one: Sealed, _other: Sealed) -> tuple[Place, bytes]:
    at = rng.randrange(len(one.frame) + 1)
    return one.place, one.frame[:at] + rng.randbytes(rng.randint(1, 9)) + one.frame[at:]


def _moved(rng: random.Random, one: Sealed, _other: Sealed) -> tuple[Place, bytes]:
    place = list(one.place)
    at = rng.randrange(3)
    place[at] = rng.choice([place[at] + "1", place[at][:-1] or "x", place[at].upper() + "_"])
    return (place[0], place[1], place[2]), one.frame


def _swapped(_rng: random.Random, one: Sealed, other: Sealed) -> tuple[Place, bytes]:
    return one.place, other.frame


def _spliced(rng: random.Random, one: Sealed, other: Sealed) -> tuple[Place, bytes]:
    at = rng.randrange(1, min(len(one.frame), len(other.frame)))
    return one.place, one.frame[:at] + other.frame[at:]


def _clear(_rng: random.Random, one: Sealed, _other: Sealed) -> tuple[Place, bytes]:
    return one.place, one.data


TRICKS: dict[str, Trick] = {
    "flipped": _flipped,
    "cut": _cut,
    "longer": _longer,
    "moved": _moved,
    "swapped": _swapped,
    "spliced": _spliced,
    "in the clear": _clear,
}


def taken(cipher: AesGcm, seed: int, count: int) -> list[str]:
    """Try so many forgeries on a cipher that requires seals; return those that it took."""
    rng = random.Random(seed)
    found: list[str] = []
    names = list(TRICKS)
    for number in range(count):
        one, other = _sealed(rng, cipher), _sealed(rng, cipher)
        name = names[number % len(names)]
        place, frame = TRICKS[name](rng, one, other)
        if (place, frame) in {(one.place, one.frame), (other.place, other.frame)}:
            continue
        try:
            cipher.open(*place, frame)
        except (SealBroken, SealMissing, KeyMissing):
            continue
        found.append(f"{name}: {place} {frame.hex()} (seed {seed}, number {number})")
    return found


def _sealed(rng: random.Random, cipher: AesGcm) -> Sealed:
    place = (f"run{rng.randrange(99)}", f"t.{rng.randrange(9)}", rng.choice(["log", "mail"]))
    data = b"\x81" + rng.randbytes(rng.choice([0, 1, 40, 900]))
    return Sealed(place, cipher.seal(*place, data), data)
