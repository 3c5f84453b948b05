"""Which mail ties a run with work in flight to its owner."""

from offbook.actors.letters import outdated


def test_a_late_copy_of_acked_mail_does_not_take_the_place_of_the_newest() -> None:
    assert outdated([("mail", 9), ("mail", 4)]) == [("mail", 4)]


def test_each_stream_keeps_its_own() -> None:
    finished = [("mail", 9), ("timers", 3), ("mail", 11), ("timers", 2)]
    assert outdated(finished) == [("mail", 9), ("timers", 2)]


def test_without_mail_there_is_none() -> None:
    assert outdated([]) == []
