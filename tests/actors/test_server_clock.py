"""Time as the server counts it: from what was heard and a clock that only goes forward."""

import pytest

from offbook.actors.server_clock import WINDOW, ServerClock

SECOND = 1_000_000
DAY = 86_400 * SECOND


class Machine:
    """Wall and monotonic clock of a machine, and the server's, in their own units."""

    def __init__(self, wrong: int = 0) -> None:
        self.wrong = wrong
        self.seconds = 100.0
        self.clock = ServerClock(lambda: self.server + self.wrong, lambda: self.seconds)

    @property
    def server(self) -> int:
        return 5_000 * DAY + round(self.seconds * SECOND)

    def hear(self, late: float = 0.0) -> None:
        self.clock.heard(self.server - round(late * SECOND))


def test_until_the_server_was_heard_the_machine_s_clock_counts() -> None:
    machine = Machine(wrong=DAY)
    assert machine.clock.now() == machine.server + DAY


@pytest.mark.parametrize("wrong", [DAY, -DAY])
def test_a_wrong_clock_and_its_jumps_are_not_seen(wrong: int) -> None:
    machine = Machine(wrong)
    machine.hear()
    machine.seconds += 7
    machine.wrong = -wrong
    assert machine.clock.now() == machine.server


def test_the_least_delayed_word_counts_and_none_makes_it_run_ahead() -> None:
    machine = Machine()
    for late in (3.0, 0.2, 5.0):
        machine.hear(late)
        machine.seconds += 1
    assert machine.clock.now() == machine.server - round(0.2 * SECOND)


def test_a_server_whose_clock_was_put_back_is_followed() -> None:
    machine = Machine()
    machine.hear()
    for _ in range(3):
        machine.seconds += WINDOW
        machine.hear(late=3_600)
    assert machine.clock.now() == machine.server - 3_600 * SECOND


def test_the_last_word_counts_however_old_it_is() -> None:
    machine = Machine(wrong=DAY)
    machine.hear()
    machine.seconds += 90 * WINDOW
    assert machine.clock.now() == machine.server
