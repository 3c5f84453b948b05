"""The verdict itself: each rule finds planted evidence, and none is found in a clean play."""

from collections.abc import Callable
from copy import deepcopy

import pytest

from offbook.actors.codec import Codec
from offbook.actors.model import Command, Event, Head, History, Record, Writer
from support.checks import SLACK, Evidence, verdicts
from support.ledger import Act, Call

SECOND = 1_000_000
T = 1_700_000_000 * SECOND
OWNER, HELPER = 41, 42


def record(n: int, events: list[Event], commands: list[Command], kind: str = "turn") -> Record:
    writer = Writer(f"host-{OWNER}-abcd", 7)
    return Record(
        n, 10 * n, bytes([n]), f"nonce{n}", writer, kind, T + n * SECOND, events, commands
    )


def completed(step: str) -> Event:
    return Event("step_completed", step, key=f"step:{step}:1", data={"attempt": 1})


def step(id: str) -> Command:  # noqa: A002 - as the field
    return Command("step", id, "add", data={"queue": "default", "args": b""})


def history() -> History:
    head = Head("r", "play", "default", b"", "d", b"", "n", T, "3.11")
    hook = Command("hook", "h", data={"token": "r"})
    timer = Command("timer", "t", data={"due": T + 3 * SECOND})
    heard = Event("hook_received", "h", key="hook:h:c", data={"caller": "c", "payload": b""})
    end = Command("complete", "end", data={"result": Codec().encode(2)})
    records = [
        record(1, [Event("started")], [step("a")]),
        record(2, [completed("a")], [timer, hook]),
        record(3, [Event("timer_fired", "t"), Event("hook_opened", "h")], []),
        record(4, [heard], [step("b")]),
        record(5, [completed("b")], [end], "end"),
    ]
    return History(head, records, 60, b"\x06")


def body(at: float, step: str, pid: int = OWNER, *, attempt: int = 1) -> list[Call]:
    began = T + round(at * SECOND)
    return [
        Call(began, pid, "r", step, attempt, "enter", step),
        Call(began + 1000, pid, "r", step, attempt, "exit", step),
    ]


def clean() -> Evidence:
    calls = [*body(1.1, "a"), *body(4.1, "b", HELPER)]
    return Evidence({"r": 2}, {"r": history()}, {"r": 2}, calls, [], {"r": ["c"]})


def records(evidence: Evidence) -> list[Record]:
    return evidence.histories["r"].records


def lose_the_run(e: Evidence) -> None:
    del e.histories["r"]
    e.calls.clear()
    e.accepted.clear()


def leave_it_running(e: Evidence) -> None:
    del records(e)[4]


def return_something_else(e: Evidence) -> None:
    e.results["r"] = 3


def leave_a_hole(e: Evidence) -> None:
    del records(e)[2]


def break_the_chain(e: Evidence) -> None:
    records(e)[3].prev_seq = records(e)[2].prev_seq


def let_a_zombie_write(e: Evidence) -> None:
    records(e)[3].writer = Writer("host-40-abcd", 6)


def go_on_after_the_end(e: Evidence) -> None:
    records(e).append(record(6, [Event("nudged")], []))


def record_an_event_twice(e: Evidence) -> None:
    records(e)[4].events.append(deepcopy(records(e)[3].events[0]))


def complete_a_step_twice(e: Evidence) -> None:
    again = completed("a")
    again.key = "step:a:other"
    records(e)[3].events.append(again)


def fail_a_completed_step(e: Evidence) -> None:
    records(e)[3].events.append(Event("step_failed", "a", data={"attempt": 1}))


def complete_before_the_command(e: Evidence) -> None:
    records(e)[0].events.append(records(e)[4].events.pop())


def fire_early(e: Evidence) -> None:
    records(e)[1].commands[0].data["due"] = T + 3 * SECOND + 1


def run_a_body_before_its_record(e: Evidence) -> None:
    e.calls[0:2] = body(0.9, "a")


def run_a_body_nobody_asked_for(e: Evidence) -> None:
    e.calls += body(4.2, "c")


def run_a_body_twice(e: Evidence) -> None:
    e.calls[2:2] = body(1.2, "a", HELPER)


def run_a_body_twice_and_kill_another(e: Evidence) -> None:
    run_a_body_twice(e)
    e.acts.append(Act("kill", T + round(1.15 * SECOND), 99))


def run_a_body_twice_and_kill_too_early(e: Evidence) -> None:
    run_a_body_twice(e)
    e.acts.append(Act("kill", T + round(1.05 * SECOND), OWNER))


def run_a_body_twice_and_kill_too_late(e: Evidence) -> None:
    run_a_body_twice(e)
    e.acts.append(Act("server", T + 2 * SECOND + SLACK))


def run_a_body_three_times_for_one_kill(e: Evidence) -> None:
    run_a_body_twice(e)
    e.calls += body(1.3, "a", 43)
    e.acts.append(Act("kill", T + round(1.15 * SECOND), OWNER))


def lose_a_payload(e: Evidence) -> None:
    records(e)[3].events[0] = Event("nudged")


def take_a_payload_twice(e: Evidence) -> None:
    twice = deepcopy(records(e)[3].events[0])
    twice.key = "hook:h:other"
    records(e)[4].events.append(twice)


def fail_a_task(e: Evidence) -> None:
    e.faults.append("process 41: balance")


FAULTS: list[tuple[Callable[[Evidence], None], set[str]]] = [
    (lose_the_run, {"lost-run"}),
    (leave_it_running, {"stuck"}),
    (return_something_else, {"wrong-result"}),
    (leave_a_hole, {"I1"}),
    (break_the_chain, {"I1"}),
    (let_a_zombie_write, {"zombie-write"}),
    (go_on_after_the_end, {"after-the-end"}),
    (record_an_event_twice, {"I5", "hook-twice"}),
    (complete_a_step_twice, {"double-completion"}),
    (fail_a_completed_step, {"double-completion"}),
    (complete_before_the_command, {"I5"}),
    (fire_early, {"early-timer"}),
    (run_a_body_before_its_record, {"I2"}),
    (run_a_body_nobody_asked_for, {"I2"}),
    (run_a_body_twice, {"extra-body"}),
    (run_a_body_twice_and_kill_another, {"extra-body"}),
    (run_a_body_twice_and_kill_too_early, {"extra-body"}),
    (run_a_body_twice_and_kill_too_late, {"extra-body"}),
    (run_a_body_three_times_for_one_kill, {"extra-body"}),
    (lose_a_payload, {"hook-lost"}),
    (take_a_payload_twice, {"hook-twice"}),
    (fail_a_task, {"fault"}),
]


@pytest.mark.parametrize(("plant", "rules"), FAULTS, ids=lambda v: getattr(v, "__name__", ""))
def test_a_planted_fault_is_found(plant: Callable[[Evidence], None], rules: set[str]) -> None:
    evidence = clean()
    plant(evidence)
    assert {verdict.rule for verdict in verdicts(evidence)} == rules


def test_nothing_is_found_in_a_clean_play() -> None:
    assert verdicts(clean()) == []


@pytest.mark.parametrize(
    "act",
    [
        Act("kill", T + round(1.15 * SECOND), OWNER),
        Act("pause", T + round(1.15 * SECOND), OWNER),
        Act("server", T + round(1.15 * SECOND)),
        Act("server", T + round(0.5 * SECOND), until=T + round(1.15 * SECOND)),
        Act("lapse", T, OWNER, until=T + round(1.15 * SECOND)),
    ],
    ids=["its process was killed", "was stopped", "the server was killed", "was down", "lapsed"],
)
def test_a_body_that_was_disturbed_may_run_again(act: Act) -> None:
    evidence = clean()
    run_a_body_twice(evidence)
    evidence.acts.append(act)
    assert verdicts(evidence) == []


def test_a_body_may_run_again_where_the_owner_of_its_run_was_killed() -> None:
    evidence = clean()
    evidence.calls[0:2] = [*body(1.1, "a", HELPER), *body(1.2, "a", 43)]
    evidence.acts.append(Act("kill", T + round(1.15 * SECOND), OWNER))
    assert verdicts(evidence) == []
