"""What a run's records ask to be said: kept until whoever wrote them has surely said it."""

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from offbook.actors.chunks import CHUNKS, CLOSE, SEAL
from offbook.actors.model import Command, Event, Head, Record, Writer
from offbook.actors.outgoing import Say
from offbook.actors.state import RunState, first_state

HEAD = Head(
    run="run_1", workflow="w", deployment="default", at=0, input=b"", nonce="n", seed=b"s",
    digest="", python="3.11",
)  # fmt: skip
CLAIM = Event("owner_changed", data={"worker": "w", "died": True, "alone": False})
STEP = Command("step", "s", "say", data={"queue": "default", "options": {}, "args": b""})


@dataclass
class Log:
    """Records as owners write them, and the state that a reader makes of all of them."""

    records: list[Record] = field(default_factory=list[Record])

    def add(self, writer: int, *commands: Command, events: tuple[Event, ...] = ()) -> None:
        n = len(self.records) + 1
        self.records.append(
            Record(
                n=n, prev_seq=n, prev_hash=b"", nonce=str(n), writer=Writer(f"w{writer}", writer),
                kind="turn", at=n, events=list(events), commands=list(commands),
            )
        )  # fmt: skip

    def state(self) -> RunState:
        state = first_state(HEAD, 0, b"")
        for record in self.records:
            state.apply(record, record.n, b"")
        return state

    def pending(self) -> list[Say]:
        out = self.state().out
        return [] if out is None else out.pending


def write(*items: bytes) -> Command:
    data = {"run": "", "items": list(items), "author": ""}
    return Command("write", f"w{items[0].decode()}", "words", data=data)


def completed(*streams: list[object], attempt: int = 1) -> Event:
    data: dict[str, object] = {"attempt": attempt, "nonce": "x", "result": b""}
    if streams:
        data["streams"] = list(streams)
    return Event("step_completed", "s", data=data)


def bodies(says: list[Say]) -> list[bytes]:
    return [item for say in says if say.kind == CHUNKS for item in say.body]


def test_what_an_owner_said_before_its_next_record_is_not_pending() -> None:
    log = Log()
    log.add(1, write(b"a"))
    assert bodies(log.pending()) == [b"a"]
    log.add(1, write(b"b"))
    assert bodies(log.pending()) == [b"b"]
    assert [say.i for say in log.pending()] == [1]


def test_what_a_dead_owner_may_not_have_said_outlives_a_second_death() -> None:
    """The successor has recorded its claim alone, then mail; and dies before it could say it."""
    log = Log()
    log.add(1, write(b"a"))
    log.add(2, events=(CLAIM,))
    log.add(2, write(b"b"))
    assert bodies(log.pending()) == [b"a", b"b"]
    log.add(2, write(b"c"))
    assert bodies(log.pending()) == [b"c"]


def test_a_claim_that_is_its_owner_s_turn_keeps_what_was_pending() -> None:
    log = Log()
    log.add(1, write(b"a"))
    log.add(2, write(b"b"), events=(CLAIM,))
    assert bodies(log.pending()) == [b"a", b"b"]
    log.add(3, Command("terminated", "end", data={"reason": None}))
    assert bodies(log.pending()) == [b"a", b"b"], "who terminates has not claimed"


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), max_size=12))
def test_no_chunk_is_forgotten_before_somebody_said_it(plan: list[tuple[bool, bool, bool]]) -> None:
    """An owner says all that is pending after each record, unless it dies first."""
    log, said, asked, owner = Log(), set[bytes](), list[bytes](), 1
    for dies, alone, _ in plan:
        asked.append(str(len(asked)).encode())
        claim = bool(log.records) and log.records[-1].writer.epoch != owner
        if claim and alone:
            log.add(owner, events=(CLAIM,))
            claim = False
        log.add(owner, write(asked[-1]), events=(CLAIM,) if claim else ())
        if dies:
            owner += 1
        else:
            said |= set(bodies(log.pending()))
    said |= set(bodies(log.pending()))
    assert said == set(asked)


def test_the_outcome_of_a_step_seals_what_it_wrote() -> None:
    log = Log()
    log.add(1, STEP)
    log.add(1, events=(completed(["run_1", "words", 3, True], ["other", "log", 1, False]),))
    seals = log.pending()
    assert [(s.kind, str(s.channel), s.i, s.body) for s in seals] == [
        (SEAL, "other/log", 1, False),
        (SEAL, "run_1/words", 3, True),
    ]
    assert {s.source.nonce for s in seals} == {"x"}


def test_what_earlier_attempts_wrote_is_sealed_too() -> None:
    log = Log()
    log.add(1, STEP)
    failed = {
        "attempt": 1,
        "nonce": "v",
        "error": b"",
        "due": 9,
        "streams": [["run_1", "a", 2, False]],
    }
    log.add(1, events=(Event("step_retrying", "s", data=failed),))
    log.add(1, events=(completed(["run_1", "b", 1, False], attempt=2),))
    assert [(str(s.channel), s.i) for s in log.pending()] == [("run_1/a", 0), ("run_1/b", 1)]


def test_after_a_change_of_owners_every_stream_of_the_run_is_sealed() -> None:
    log = Log()
    log.add(1, STEP)
    log.add(2, events=(CLAIM,))
    log.add(2, events=(completed(),))
    (seal,) = log.pending()
    assert (seal.kind, seal.channel, seal.source.nonce) == (SEAL, None, "x")
    out = log.state().out
    assert out is not None
    assert out.doubts == [seal]


def test_a_step_that_wrote_nothing_asks_for_nothing() -> None:
    log = Log()
    log.add(1, STEP)
    log.add(1, events=(completed(),))
    assert log.state().out is None


def test_a_body_s_chunks_are_numbered_by_stream() -> None:
    log = Log()
    other = Command("write", "x", "log", data={"run": "other", "items": [b"1"], "author": ""})
    topic = Command("write", "y", "log", data={"run": None, "items": [b"1"], "author": "me"})
    close = Command("close_stream", "z", "words", data={"run": "", "error": None})
    log.add(1, write(b"a", b"b"), other, topic, write(b"c"), close)
    assert [(s.kind, str(s.channel), s.i, s.author) for s in log.pending()] == [
        (CHUNKS, "run_1/words", 0, ""),
        (CHUNKS, "other/log", 0, ""),
        (CHUNKS, "log", 0, "me"),
        (CHUNKS, "run_1/words", 2, ""),
        (CLOSE, "run_1/words", 3, ""),
    ]
    out = log.state().out
    assert out is not None
    assert out.names == {"words"}, "its own streams only"
    assert out.first
