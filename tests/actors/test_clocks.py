"""In a body the clock is logical and the randomness is the run's; elsewhere both are real."""

# The calls under test are looked up late, and in their local and naive forms too.
# ruff: noqa: ANN401, DTZ001, DTZ006, DTZ011, DTZ012, PLW0108

import copy
import datetime as dt
import functools
import os
import pickle
import random
import secrets
import sys
import time
import uuid
from collections.abc import Callable
from types import ModuleType
from typing import Any, Union

import pydantic
import pytest

from offbook.actors import clocks, guard

NOW = 1_500_000_000_123_456
SECONDS = NOW / 1_000_000


class Body:
    replaying = False

    def __init__(self, seed: int = 7, now: int = NOW) -> None:
        self.generator = random.Random(seed)
        self.instant = now

    def now(self) -> int:
        return self.instant

    def random(self) -> random.Random:
        return self.generator

    def refused(self, error: Exception) -> None:
        raise error

    def run(self, call: Callable[[], Any]) -> Any:
        token = guard.enter(self)
        try:
            return call()
        finally:
            guard.leave(token)


@pytest.fixture(autouse=True)
def installed() -> None:
    guard.install()


def prepared(text: str) -> Any:
    """Return a module that imported its names before the guard was there."""
    module = ModuleType("flows")
    before = {o.name: getattr(o.module, o.name) for o in clocks.origins}
    try:
        for origin in clocks.origins:
            setattr(origin.module, origin.name, origin.real)
        exec(text, module.__dict__)
    finally:
        for origin in clocks.origins:
            setattr(origin.module, origin.name, before[origin.name])
    guard.prepare_module(module)
    return module


TIMES: dict[str, tuple[Callable[[], Any], Any]] = {
    "time": (lambda: time.time(), SECONDS),
    "time_ns": (lambda: time.time_ns(), NOW * 1000),
    "monotonic": (lambda: time.monotonic(), SECONDS),
    "perf_counter_ns": (lambda: time.perf_counter_ns(), NOW * 1000),
    "process_time": (lambda: time.process_time(), SECONDS),
    "clock_gettime": (lambda: time.clock_gettime(time.CLOCK_REALTIME), SECONDS),
    "gmtime": (lambda: time.gmtime(), time.gmtime(SECONDS)),
    "gmtime(None)": (lambda: time.gmtime(None), time.gmtime(SECONDS)),
    "gmtime(0)": (lambda: time.gmtime(0), time.gmtime(0)),
    "localtime": (lambda: time.localtime(), time.localtime(SECONDS)),
    "ctime": (lambda: time.ctime(), time.ctime(SECONDS)),
    "asctime": (lambda: time.asctime(), time.ctime(SECONDS)),
    "strftime": (lambda: time.strftime("%Y-%m-%d"), "2017-07-14"),
    "strftime of": (lambda: time.strftime("%Y", time.gmtime(0)), "1970"),
    "date.today": (lambda: dt.date.today(), dt.date.fromtimestamp(SECONDS)),
}


@pytest.mark.parametrize("name", TIMES)
def test_the_clock_of_a_body_is_logical(name: str) -> None:
    call, expected = TIMES[name]
    assert Body().run(call) == expected


CAPTURED = """
import datetime as module
from datetime import date, datetime
from time import time, monotonic_ns, localtime, sleep
from random import random, getrandbits, gauss, randint, choice, shuffle, seed
from uuid import uuid1, uuid4
from os import urandom
from secrets import token_hex
"""


def test_what_a_module_imported_by_name_is_logical_too() -> None:
    flows = prepared(CAPTURED)
    local = dt.datetime.fromtimestamp(NOW // 1_000_000).replace(microsecond=123_456)
    utc = dt.datetime(2017, 7, 14, 2, 40, 0, 123_456, dt.UTC)
    seen = Body().run(
        lambda: [
            flows.time(),
            flows.monotonic_ns(),
            flows.localtime(),
            flows.datetime.now(),
            flows.datetime.now(dt.UTC),
            flows.datetime.now(tz=dt.UTC),
            flows.datetime.utcnow(),
            flows.datetime.today(),
            flows.module.datetime.now(),
            flows.date.today(),
            flows.module.date.today(),
        ]
    )
    day = local.date()
    naive = utc.replace(tzinfo=None)
    times = [SECONDS, NOW * 1000, time.localtime(SECONDS)]
    assert seen == [*times, local, utc, utc, naive, local, local, day, day]


def test_randomness_of_a_body_is_repeatable_and_the_runs_own() -> None:
    flows = prepared(CAPTURED)

    def draw() -> list[Any]:
        cards = list(range(20))
        flows.shuffle(cards)
        return [
            cards,
            random.random(),
            flows.random(),
            flows.getrandbits(64),
            flows.gauss(0, 1),
            random.gauss(0, 1),
            flows.gauss(0, 1),
            flows.randint(0, 10**9),
            flows.choice(range(10**9)),
            random.uniform(0, 1),
            random.sample(range(10**9), 3),
            flows.uuid1(),
            flows.uuid4(),
            uuid.uuid1(),
            uuid.uuid4(),
            flows.urandom(8),
            os.urandom(8),
            flows.token_hex(8),
            secrets.token_bytes(8),
            secrets.randbelow(10**9),
            random.Random().random(),
            random.SystemRandom().random(),
        ]

    first, again, other = Body(1).run(draw), Body(1).run(draw), Body(2).run(draw)
    assert first == again
    assert all(a != b for a, b in zip(first, other, strict=True))
    assert first != draw()


def test_gauss_does_not_carry_a_number_from_run_to_run() -> None:
    random.gauss(0, 1)
    alone = Body(3).run(lambda: random.gauss(0, 1))
    Body(4).run(lambda: random.gauss(0, 1))
    assert Body(3).run(lambda: random.gauss(0, 1)) == alone


def test_seeding_in_a_body_reaches_the_run_and_not_the_process() -> None:
    random.seed(99)
    state = random.getstate()

    def seeded() -> float:
        random.seed(5)
        return random.random()

    assert Body().run(seeded) == random.Random(5).random()
    assert random.getstate() == state
    assert Body().run(random.getstate) == random.Random(7).getstate()


def test_a_uuid1_of_a_body_holds_the_logical_time() -> None:
    made = Body().run(uuid.uuid1)
    assert made.version == 1
    assert made.variant == uuid.RFC_4122
    assert (made.time - 0x01B21DD213814000) // 10 == NOW
    assert Body().run(lambda: uuid.uuid1(node=5, clock_seq=6)).fields[3:] == (0x80, 6, 5)


def test_the_newer_uuids_are_well_formed() -> None:
    seven = clocks.logical_uuid7(Body())
    six = clocks.logical_uuid6(Body())
    assert (seven.version, seven.variant) == (7, uuid.RFC_4122)
    assert seven.int >> 80 == NOW // 1000
    assert (six.version, six.variant) == (6, uuid.RFC_4122)


def test_outside_of_a_body_the_process_is_as_it_was() -> None:
    flows = prepared(CAPTURED)
    assert abs(time.time() - flows.datetime.now().timestamp()) < 60
    assert time.time() > SECONDS + 10**7
    assert flows.urandom(16) != flows.urandom(16)
    random.seed(4)
    assert [random.random(), random.getrandbits(9)] == _plain(4)
    random.seed(4)
    assert [flows.random(), flows.getrandbits(9)] == _plain(4)
    with pytest.raises(TypeError):
        time.time(1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def _plain(seed: int) -> list[float]:
    generator = random.Random(seed)
    return [generator.random(), generator.getrandbits(9)]


def test_a_dispatcher_in_a_class_does_not_bind_as_a_method() -> None:
    timer: Any = type("Timer", (), {"clock": time.monotonic, "converter": time.gmtime})()
    assert timer.clock() <= time.monotonic()
    assert timer.converter(0).tm_year == 1970


REPLACED = [("time", "time"), ("os", "urandom"), ("builtins", "print"), ("random", "random")]


@pytest.mark.parametrize(("module", "name"), REPLACED)
def test_what_was_replaced_can_still_be_pickled(module: str, name: str) -> None:
    origin = next(o for o in clocks.origins if (o.module.__name__, o.name) == (module, name))
    now = getattr(sys.modules[module], name)
    assert pickle.loads(pickle.dumps(now)) is now
    assert pickle.loads(pickle.dumps(origin.real)) is now
    assert pickle.loads(pickle.dumps(len)) is len
    assert copy.deepcopy(functools.partial(now)).func is not None


def test_a_test_tool_that_puts_the_real_clock_back_is_mended() -> None:
    origin = next(o for o in clocks.origins if o.name == "time")
    time.time = origin.real
    guard.install()
    assert Body().run(lambda: time.time()) == SECONDS


def test_a_module_is_prepared_once_and_only_where_it_must() -> None:
    flows = prepared("from datetime import datetime, timedelta\nimport json\nanswer = 42")
    names: dict[str, Any] = {**flows.__dict__}
    guard.prepare_module(flows)
    assert vars(flows) == names
    assert flows.timedelta is dt.timedelta
    assert flows.datetime is not dt.datetime


REAL: Any = dt.datetime


# The stand-in of datetime, outside of a body


@pytest.fixture
def datetime() -> Any:
    return prepared("from datetime import datetime").datetime


def test_the_standin_makes_real_datetimes(datetime: Any) -> None:
    made = [
        datetime(2020, 1, 2),
        datetime.now(),
        datetime.fromisoformat("2020-01-02"),
        datetime.strptime("2020", "%Y"),
        datetime.combine(dt.date(2020, 1, 2), dt.time()),
        datetime.fromtimestamp(0),
        datetime.min,
    ]
    assert {type(value) for value in made} == {dt.datetime}


def test_the_standin_answers_like_the_class(datetime: Any) -> None:
    assert isinstance(dt.datetime(2020, 1, 1), datetime)
    assert not isinstance(dt.date(2020, 1, 1), datetime)
    assert issubclass(datetime, dt.date)
    assert issubclass(dt.datetime, datetime)
    assert not issubclass(dt.date, datetime)
    assert datetime == dt.datetime
    assert {REAL: 1}[datetime] == 1
    assert repr(datetime) == "<class 'datetime.datetime'>"
    assert Union[datetime, None] == Union[REAL, None]  # noqa: UP007  (typing's cache)
    assert _kind(dt.datetime(2020, 1, 1), datetime) == "datetime"


def _kind(value: object, datetime: Any) -> str:
    match value:
        case datetime():
            return "datetime"
        case _:
            return "other"


def test_the_standin_and_its_values_can_be_pickled_and_copied(datetime: Any) -> None:
    value = datetime(2020, 1, 2, tzinfo=dt.UTC)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(value, protocol)) == value
        assert pickle.loads(pickle.dumps(datetime, protocol)) is dt.datetime
    assert copy.deepcopy(datetime) is datetime


def test_a_subclass_of_the_standin_is_a_plain_subclass(datetime: Any) -> None:
    class Moment(datetime):  # type: ignore[misc]
        pass

    assert type(Moment(2020, 1, 2)) is Moment
    assert type(Moment.now()) is Moment
    assert isinstance(Moment.now(), datetime)
    assert not isinstance(datetime.now(), Moment)
    assert Moment != dt.datetime
    made = Body().run(Moment.now)
    assert type(made) is Moment
    assert made.year == 2017


def test_singledispatch_sees_the_real_class(datetime: Any) -> None:
    @functools.singledispatch
    def show(value: object) -> str:
        return f"object {value}"

    def show_datetime(value: dt.datetime) -> str:
        return f"datetime {value.year}"

    show.register(datetime, show_datetime)

    assert show(dt.datetime(2020, 1, 1)) == "datetime 2020"


def test_pydantic_takes_the_standin_for_the_class(datetime: Any) -> None:
    shape: Any = list.__class_getitem__(datetime | None)
    adapter: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(shape)
    moment = dt.datetime(2020, 1, 2, tzinfo=dt.UTC)
    assert adapter.validate_python(["2020-01-02T00:00:00Z", None]) == [moment, None]
    assert adapter.json_schema()["items"]["anyOf"][0]["format"] == "date-time"


def test_a_model_with_late_annotations_works_after_preparation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flows = prepared(
        "from __future__ import annotations\n"
        "from datetime import datetime\nimport pydantic\n"
        "def make():\n"
        "    class Order(pydantic.BaseModel):\n        at: datetime\n    return Order\n"
    )
    monkeypatch.setitem(sys.modules, "flows", flows)
    made = flows.make()(at="2020-01-02T00:00:00")
    assert type(made.at) is dt.datetime
    assert made.at == dt.datetime(2020, 1, 2)
