"""What a glance at a stored message says."""

import pytest

from offbook.actors.model import (
    Command,
    Event,
    Head,
    Record,
    Writer,
    decode_head,
    decode_record,
    encode_head,
    encode_record,
    may_end,
    pack,
    unpack,
)


def record(kind: str, payload: bytes = b"") -> bytes:
    events = [Event("step_completed", "0_0", "k", {"result": payload})]
    writer = Writer("worker", 7)
    commands = [Command("complete", "end", data={"result": b"end"})]
    return encode_record(Record(3, 9, b"\x01" * 16, "ab" * 8, writer, kind, 5, events, commands))


@pytest.mark.parametrize("size", [0, 1, 100_000])
def test_only_the_record_of_an_end_may_end_a_run(size: int) -> None:
    assert may_end(record("end", b"x" * size))
    for kind in ("turn", "claim", "upgrade", "rewind"):
        assert not may_end(record(kind, b"end" * size))


@pytest.mark.parametrize("data", [b"", b"\xc1", b"junk", b"\x99", b"\x81\xa1v\x01", b"\x93" * 50])
def test_whatever_is_no_record_may_end_a_run(data: bytes) -> None:
    assert may_end(data)


@pytest.mark.parametrize("bit", range(8))
def test_a_bit_of_the_newest_record_that_turned_over_is_found(bit: int) -> None:
    data = record("turn", b"payload")
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1 << bit
        with pytest.raises(ValueError, match=r"record|message"):
            decode_record(bytes(changed))


def test_a_bit_of_a_head_that_turned_over_is_found() -> None:
    data = encode_head(Head("r", "w", "d", b"input", "d", bytes(32), "n", 5, "3.11"))
    assert decode_head(data).run == "r"
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1
        with pytest.raises(ValueError, match=r"head|message"):
            decode_head(bytes(changed))


def test_a_record_without_a_checksum_is_read_as_before() -> None:
    fields = unpack(record("turn", b"payload"))
    assert decode_record(pack(fields[:-1])) == decode_record(record("turn", b"payload"))
    assert may_end(pack([*fields[:6], "end", *fields[7:-1]]))
