"""The verdict itself: each rule finds planted evidence, and none is found in a clean play."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import pytest

from offbook.actors.codec import Codec
from offbook.actors.model import Command, Event, Head, History, Record, Writer
from offbook.ops.chaos.checks import CANCEL_SLACK, SLACK, verdicts
from offbook.ops.chaos.evidence import Acknowledged, Act, Call, Evidence, Harm
from offbook.ops.chaos.report import GROUPS, counted, lines

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
    key = f"r/{step}", "of one effect"
    return [
        Call(began, pid, "r", step, attempt, "enter", step, *key),
        Call(began + 1000, pid, "r", step, attempt, "exit", step, *key),
    ]


def clean() -> Evidence:
    calls = [*body(1.1, "a"), *body(4.1, "b", HELPER)]
    evidence = Evidence({"r": 2}, {"r": history()}, {"r": 2}, calls, [], {"r": ["c"]})
    evidence.children = set()
    evidence.acknowledged = [Acknowledged(T, f"host-{OWNER}-abcd", "r", n) for n in range(1, 6)]
    evidence.words, evidence.script = {"r": [1, 2, 3]}, {"r": [1, 2, 3]}
    evidence.calm = T
    return evidence


def records(evidence: Evidence) -> list[Record]:
    return evidence.histories["r"].records


def lose_the_run(e: Evidence) -> None:
    del e.histories["r"]
    e.calls.clear()
    e.accepted.clear()
    e.acknowledged.clear()


def leave_it_running(e: Evidence) -> None:
    del records(e)[4]
    del e.acknowledged[4]


def return_something_else(e: Evidence) -> None:
    e.results["r"] = 3


def leave_a_hole(e: Evidence) -> None:
    del records(e)[2]


def break_the_chain(e: Evidence) -> None:
    records(e)[3].prev_seq = records(e)[2].prev_seq


def let_a_zombie_write(e: Evidence) -> None:
    records(e)[3].writer = Writer("host-40-abcd", 6)
    e.acknowledged[3] = replace(e.acknowledged[3], worker="host-40-abcd")


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


def leave_something(e: Evidence) -> None:
    e.leaks.append("3 messages in chaos_mail")


def start_it_unasked(e: Evidence) -> None:
    e.histories["stranger"] = deepcopy(e.histories["r"])


def make_it_unreadable(e: Evidence) -> None:
    e.unreadable["r"] = "the chain is broken"


def end_long_after_calm(e: Evidence) -> None:
    e.calm -= e.patience


def forget_a_cancel(e: Evidence) -> None:
    e.cancelled["r"] = T + 5 * SECOND - CANCEL_SLACK - 1


def fire_and_cancel(e: Evidence) -> None:
    records(e)[3].commands.append(Command("cancel_timer", "t"))


def never_fire(e: Evidence) -> None:
    del records(e)[2].events[0]


def give_a_key_two_effects(e: Evidence) -> None:
    e.calls += [replace(call, sha="of another") for call in body(2.1, "a")[:1]]
    e.acts.append(Act("kill", T + round(1.15 * SECOND), OWNER))


def forget_the_last_record(e: Evidence) -> None:
    e.acknowledged.append(replace(e.acknowledged[0], n=6))


def forget_all_records(e: Evidence) -> None:
    records(e).clear()
    e.calls.clear()
    e.accepted.clear()
    e.expected.clear()
    e.children = {"r"}


def let_another_have_written(e: Evidence) -> None:
    e.acknowledged[1] = replace(e.acknowledged[1], worker="host-42-abcd")


def lose_a_word(e: Evidence) -> None:
    del e.words["r"][1]


def say_a_word_twice(e: Evidence) -> None:
    e.words["r"].append(3)


def mix_words(e: Evidence) -> None:
    e.words["r"].reverse()


def stand_still(e: Evidence) -> None:
    """Of a cluster: all was acknowledged at one moment, and then nothing for ten seconds."""
    e.harms = [Harm("lose", "n1", T, T + 10 * SECOND)]
    e.bare = [T + n * SECOND // 10 for n in range(100)]


FAULTS: list[tuple[Callable[[Evidence], None], set[str]]] = [
    (lose_the_run, {"lost-run"}),
    (stand_still, {"stop"}),
    (leave_it_running, {"stuck"}),
    (return_something_else, {"wrong-result"}),
    (leave_a_hole, {"I1", "lost-event", "lost-timer"}),
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
    (leave_something, {"leak"}),
    (start_it_unasked, {"I7"}),
    (make_it_unreadable, {"I1"}),
    (end_long_after_calm, {"stuck"}),
    (forget_a_cancel, {"lost-cancel"}),
    (fire_and_cancel, {"two-outcomes"}),
    (never_fire, {"lost-timer"}),
    (give_a_key_two_effects, {"keyed-twice"}),
    (forget_the_last_record, {"lost-event"}),
    (forget_all_records, {"lost-event"}),
    (let_another_have_written, {"moved-event"}),
    (lose_a_word, {"chunk-lost"}),
    (say_a_word_twice, {"chunk-twice"}),
    (mix_words, {"chunk-out-of-order"}),
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


def cancel_just_before_the_end(e: Evidence) -> None:
    e.cancelled["r"] = T + 5 * SECOND - CANCEL_SLACK


def cancel_a_step(e: Evidence) -> None:
    records(e)[4].commands.insert(0, Command("cancel_step", "b"))


def cancel_in_time(e: Evidence) -> None:
    e.cancelled["r"] = T + 4 * SECOND
    records(e)[4].events = [Event("cancel_requested", key="cancel:x")]
    records(e)[4].commands = [Command("cancelled", "end", data={})]
    e.calls[2:] = []
    e.words["r"] = [1, 2]
    del e.results["r"]


def start_a_child(e: Evidence) -> None:
    start_it_unasked(e)
    e.children = {"stranger"}


def repeat_an_effect(e: Evidence) -> None:
    run_a_body_twice(e)
    e.acts.append(Act("kill", T + round(1.15 * SECOND), OWNER))


def kill_a_late_body(e: Evidence) -> None:
    """Its task came again, for its ack was lost in the kill; and the second one dies too."""
    e.calls += [*body(2.5, "a", HELPER)[:1], *body(4.5, "a", 43)]
    e.acts += [Act("kill", T + round(1.15 * SECOND), OWNER)]
    e.acts += [Act("kill", T + 3 * SECOND, HELPER)]


def end_in_time(e: Evidence) -> None:
    e.calm -= e.patience - 5 * SECOND


def judge_a_play_without_calm(e: Evidence) -> None:
    end_long_after_calm(e)
    e.calm = 0


def stand_still_with_the_servers(e: Evidence) -> None:
    stand_still(e)
    e.bare = [at for at in e.bare if not SECOND < at - T < 7 * SECOND]


def cancel_a_timer(e: Evidence) -> None:
    never_fire(e)
    fire_and_cancel(e)


CLEAN = [
    cancel_just_before_the_end,
    cancel_in_time,
    cancel_a_step,
    start_a_child,
    repeat_an_effect,
    kill_a_late_body,
    end_in_time,
    judge_a_play_without_calm,
    cancel_a_timer,
    stand_still_with_the_servers,
]


@pytest.mark.parametrize("change", CLEAN, ids=lambda v: v.__name__)
def test_what_may_be_is_left_alone(change: Callable[[Evidence], None]) -> None:
    evidence = clean()
    change(evidence)
    assert verdicts(evidence) == []


def test_every_rule_that_a_fault_breaks_is_printed_in_a_group() -> None:
    named = {rule for rules in GROUPS.values() for rule in rules}
    planted = {rule for _, rules in FAULTS for rule in rules}
    assert planted == named


def test_a_verdict_names_its_group_its_evidence_and_how_to_have_it_again() -> None:
    evidence = clean()
    lose_a_word(evidence)
    found = verdicts(evidence)
    assert counted(found)["lost"] == 1
    head, line = lines(found, {"seed": 7, "commit": "abc"})
    assert "lost 1" in head
    assert "duplicate 0" in head
    assert '"rule": "chunk-lost"' in line
    assert '"seed": 7' in line
