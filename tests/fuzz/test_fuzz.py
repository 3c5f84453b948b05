"""Whatever bytes come from outside: no reader fails otherwise than it promises, or takes more."""

import os
import tracemalloc
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz.targets import KINDS, TARGETS, Target, letter
from offbook.actors.model import unpack

EXAMPLES = int(os.environ.get("OFFBOOK_EXAMPLES", "25"))
QUICK = settings(max_examples=EXAMPLES, deadline=None)

plain: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text()
    | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
fields = st.sampled_from(
    [
        "step",
        "attempt",
        "outcome",
        "result",
        "error",
        "retryable",
        "after",
        "beat",
        "changes",
        "streams",
        "nonce",
        "worker",
        "lost",
        "kept",
        "caller",
        "payload",
        "hook",
        "token",
        "early",
        "id",
        "reason",
        "parent",
        "command",
        "run",
        "status",
        "ids",
        "scope",
        "source",
        "writer",
        "timer",
        "owner",
        "conflict",
        "v",
        "n",
        "kind",
        "at",
        "workflow",
        "deployment",
        "input",
        "seed",
        "digest",
        "attributes",
    ]
)
likely = st.sampled_from(
    ["s", "t", "h", "c", "r", "r-c", "0_9", "completed", "failed", "cancelled", 1, 2, b"", True]
)
letters = st.dictionaries(fields, likely | plain, max_size=9).map(msgpack.packb)
records = st.lists(likely | plain, min_size=8, max_size=11).map(msgpack.packb)
sealed = st.binary(max_size=40).map(b"\xc1OB\x01".__add__)
noise = st.one_of(st.binary(max_size=400), sealed, plain.map(msgpack.packb), letters, records)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.__name__)
def test_no_bytes_from_outside_break_what_reads_them(target: Target) -> None:
    @QUICK
    @given(noise)
    def check(data: bytes) -> None:
        target(data)

    check()


@pytest.mark.parametrize("kind", KINDS)
def test_no_letter_breaks_a_run(kind: str) -> None:
    @QUICK
    @given(letters)
    def check(data: bytes) -> None:
        letter(kind, data)

    check()


LYING = {
    "an array of four billion": b"\xdd\xff\xff\xff\xff",
    "a map of four billion": b"\xdf\xff\xff\xff\xff",
    "text of four billion bytes": b"\xdb\xff\xff\xff\xff",
    "bytes of four billion": b"\xc6\xff\xff\xff\xff",
    "an extension of four billion": b"\xc9\xff\xff\xff\xff\x64",
    "deep lists": b"\x91" * 100_000,
    "deep maps": b"\x81\xa0" * 100_000,
    "nested lengths": b"\xdd\x00\x01\x00\x00" * 1_000,
    "wide lists": b"\xdc\xff\xff" + b"\xc0" * 65_535,
}


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.__name__)
@pytest.mark.parametrize("what", LYING)
def test_lengths_that_lie_cost_no_memory(what: str, target: Target) -> None:
    data = LYING[what]
    tracemalloc.start()
    try:
        target(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8_000_000 + 100 * len(data)


def test_the_readers_say_what_is_wrong() -> None:
    for data in LYING.values():
        if data != LYING["wide lists"]:
            with pytest.raises(ValueError, match=r"not a message|nested"):
                unpack(data)
