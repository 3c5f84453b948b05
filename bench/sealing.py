"""What a cipher costs: frames alone, and steps beside the same without one."""

import os
import time
from collections.abc import Callable

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

import offbook
from offbook.adapters.cipher import AesGcm, KeyRing

from . import ceiling, work
from .rows import Row

_SIZES = {"256 B": 256, "16 KiB": 16 << 10, "256 KiB": 256 << 10}
_ROUNDS = 5


async def _cipher() -> AesGcm:
    cipher = AesGcm(KeyRing.of({"k1": os.urandom(32)}), require=True)
    await cipher.ready()
    return cipher


async def frames() -> list[Row]:
    """Seal and open payloads of some sizes, for a run whose key is known."""
    cipher = await _cipher()
    return [row for name, size in _SIZES.items() for row in _of_size(cipher, name, size)]


def _of_size(cipher: AesGcm, name: str, size: int) -> list[Row]:
    data = os.urandom(size)
    place = "run_01a22a97e2ca7a50b9ca62523d1de382", "t.17", "log"
    frame = cipher.seal(*place, data)
    bound = round(10 + 0.2 * size / 1024, 1)
    alone, nonce = AESGCM(os.urandom(32)), os.urandom(12)
    acts: dict[str, Callable[[], bytes]] = {
        "AES-GCM alone": lambda: alone.encrypt(nonce, data, None),
        "seal": lambda: cipher.seal(*place, data),
        "open": lambda: cipher.open(*place, frame),
    }
    costs: dict[str, list[float]] = {what: [] for what in acts}
    for _ in range(_ROUNDS):
        for what, act in acts.items():
            costs[what].append(_each(act, size))
    middles = {what: ceiling.middle(found) for what, found in costs.items()}
    bare = round(middles.pop("AES-GCM alone"), 2)
    note = f"AES-GCM alone {bare}"
    return [
        Row(f"{what} {name}", round(middle, 2), "us", f"<= {bound}", middle <= bound, note)
        for what, middle in middles.items()
    ]


def _each(act: Callable[[], bytes], size: int) -> float:
    count = 5_000 if size <= 1 << 14 else 500
    began = time.process_time()
    for _ in range(count):
        act()
    return (time.process_time() - began) / count * 1e6


async def steps(url: str) -> list[Row]:
    """Run the same chain of local steps with a cipher and without, in turns."""
    ratios: list[float] = []
    async with (
        offbook.connect(url, namespace="sealed", cipher=await _cipher()) as sealed,
        offbook.connect(url, namespace="open") as clear,
        offbook.Worker(sealed),
        offbook.Worker(clear),
    ):
        for _ in range(_ROUNDS):
            with_, without = await _gap(sealed), await _gap(clear)
            ratios.append(with_ / without)
    low, high = min(ratios), max(ratios)
    middle = round(ceiling.middle(ratios), 2)
    return [Row("sealed local step / clear", middle, "x", note=f"{low:.2f} to {high:.2f}")]


async def _gap(client: offbook.Client) -> float:
    work.ENTERED.clear()
    await (await client.start(work.chain, 300)).result()
    return ceiling.middle([b - a for a, b in zip(work.ENTERED, work.ENTERED[1:], strict=False)])
