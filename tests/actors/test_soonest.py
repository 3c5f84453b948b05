"""The first of many times is known without a look at the others."""

import random

from offbook.actors.soonest import Soonest

MANY = 10_000
INVERSE = pow(7919, -1, MANY)


class Counted(int):
    """A number that counts how often such are compared."""

    compared = 0

    def __lt__(self, other: int) -> bool:
        Counted.compared += 1
        return int(self) < int(other)

    def __eq__(self, other: object) -> bool:
        Counted.compared += 1
        return int(self) == other

    __hash__ = int.__hash__


def test_the_first_is_right_whatever_was_set_moved_and_taken_back() -> None:
    rng = random.Random(7)
    soonest, plain = Soonest(), dict[str, int]()
    for _ in range(20_000):
        name = f"t{rng.randrange(50)}"
        if rng.random() < 0.6:
            plain[name] = rng.randrange(1000)
            soonest.set(name, plain[name])
        else:
            plain.pop(name, None)
            soonest.drop(name)
        assert soonest.first() == min(plain.values(), default=None)
    soonest.clear()
    assert soonest.first() is None


def test_ten_thousand_times_that_come_one_by_one_are_not_all_compared_each_time() -> None:
    soonest = Soonest()
    for i in range(MANY):
        soonest.set(f"t{i}", Counted(i * 7919 % MANY))
    Counted.compared = 0
    for i in range(MANY):
        due = soonest.first()
        assert due == i
        soonest.drop(f"t{i * INVERSE % MANY}")
    assert Counted.compared < MANY * 100


def test_what_was_taken_back_is_not_kept() -> None:
    soonest = Soonest()
    for i in range(MANY):
        soonest.set(f"t{i}", MANY - i)
        soonest.drop(f"t{i}")
    assert len(soonest._heap) < 200  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - it is what can grow
