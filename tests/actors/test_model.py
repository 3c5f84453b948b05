"""What a glance at a stored message says."""

import pytest

from offbook.actors.model import Command, Event, Record, Writer, encode_record, may_end


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
