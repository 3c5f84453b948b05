"""Exceptions cross with class, arguments, attributes, notes, causes, members and traceback."""

# ruff: noqa: ANN401, DTZ001 - values of any type are what is tested, naive times among them

import asyncio
import datetime as dt
import json
import subprocess
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self, cast

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offbook.actors import errors, failures
from offbook.actors.codec import Codec
from offbook.actors.errors import (
    FatalError,
    HookConflict,
    OffbookError,
    PayloadMismatch,
    RetryableError,
    RunFailed,
    StepFailed,
)
from offbook.actors.paths import class_of
from offbook.actors.table import DEFAULT

codec = Codec()
codec.know_module(__name__)


def crossed(error: BaseException, reader: Codec = codec) -> Any:
    return reader.decode_error(codec.encode_error(error), "charge")


class Declined(Exception):
    def __init__(self, card: str, *, limit: int) -> None:
        super().__init__(f"{card} declined")
        self.card = card
        self.limit = limit


class Slotted(ValueError):
    __slots__ = ("__hidden", "message", "unset")

    def __init__(self, message: str) -> None:
        self.message = message
        self.__hidden = None

    def __str__(self) -> str:
        return f"slotted {self.message} {self.__hidden}"


class OwnNew(Exception):
    def __new__(cls, *numbers: int) -> Self:  # pyright: ignore[reportInconsistentConstructor] - the case
        if len(numbers) != 2:
            raise TypeError("two numbers")
        return super().__new__(cls, *numbers)


@dataclass
class Record(Exception):
    number: int
    when: dt.datetime


class Full(OSError):
    def __init__(self, disk: str) -> None:
        super().__init__(28, "no space", disk)
        self.disk = disk


class Ended(SystemExit):
    pass


class Members(ExceptionGroup[Exception]):
    extra: Any = None


def members(*errors: Exception) -> Members:
    made = Members("m", errors)
    made.extra = [1, (2,)]
    return made


def decode_failure() -> UnicodeDecodeError:
    try:
        b"\xff".decode("utf-8")
    except UnicodeDecodeError as error:
        return error
    raise AssertionError


def json_failure() -> json.JSONDecodeError:
    try:
        json.loads("{")
    except json.JSONDecodeError as error:
        return error
    raise AssertionError


def syntax_failure() -> SyntaxError:
    try:
        compile("a b", "<text>", "exec")
    except SyntaxError as error:
        return error
    raise AssertionError


ERRORS: list[BaseException] = [
    ValueError("a", 1, (2, {3})),
    ValueError(),
    KeyError("k"),
    IndexError(),
    ZeroDivisionError("division by zero"),
    OSError("only text"),
    OSError(2, "no such file", "f"),
    FileNotFoundError(2, "no such file", "f", None, "g"),
    ConnectionResetError(104, "reset"),
    BlockingIOError(11, "would block", 5),
    TimeoutError("late"),
    UnicodeEncodeError("ascii", "ä", 0, 1, "not ascii"),
    decode_failure(),
    json_failure(),
    syntax_failure(),
    ImportError("no", name="n", path="p"),
    ModuleNotFoundError("no", name="n"),
    AttributeError("no", name="n", obj=object()),
    NameError("no", name="n"),
    StopIteration(5),
    StopAsyncIteration(),
    GeneratorExit(),
    KeyboardInterrupt(),
    SystemExit(3),
    asyncio.CancelledError("stop"),
    asyncio.QueueEmpty(),
    subprocess.CalledProcessError(3, ["cmd"], b"out"),
    RecursionError("deep"),
    MemoryError(),
    Warning("w"),
    Declined("visa", limit=5),
    Slotted("m"),
    OwnNew(1, 2),
    Record(5, dt.datetime(2024, 1, 1)),
    Full("sda"),
    Ended("bye"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
def test_an_exception_comes_back_as_itself(error: BaseException) -> None:
    found = crossed(error)
    assert type(found) is type(error)
    assert str(found) == str(error)
    assert found.args == error.args
    hidden = {"remote_traceback", "__notes__"}
    assert {k: v for k, v in vars(found).items() if k not in hidden} == vars(error)


ATTRIBUTES: list[tuple[BaseException, tuple[str, ...]]] = [
    (OSError(2, "no such file", "f"), ("errno", "strerror", "filename")),
    (FileNotFoundError(2, "no", "f", None, "g"), ("filename", "filename2")),
    (BlockingIOError(11, "no", 5), ("characters_written",)),
    (ImportError("no", name="n", path="p"), ("msg", "name", "path")),
    (decode_failure(), ("encoding", "object", "start", "end", "reason")),
    (syntax_failure(), ("msg", "filename", "lineno", "offset", "text")),
    (json_failure(), ("msg", "doc", "pos", "lineno", "colno")),
    (StopIteration(5), ("value",)),
    (SystemExit(3), ("code",)),
    (NameError("no", name="n"), ("name",)),
    (Full("sda"), ("errno", "filename", "disk")),
    (Slotted("m"), ("message",)),
]


@pytest.mark.parametrize(("error", "names"), ATTRIBUTES, ids=lambda x: type(x).__name__)
def test_attributes_outside_of_the_dict_are_kept(
    error: BaseException, names: tuple[str, ...]
) -> None:
    found = crossed(error)
    assert [getattr(found, n) for n in names] == [getattr(error, n) for n in names]


def test_no_init_runs() -> None:
    seen: list[str] = []

    class Counting(Exception):
        def __init__(self, text: str) -> None:
            super().__init__(text)
            seen.append(text)

    own = Codec()
    own.register(Counting)
    error = Counting("once")
    assert isinstance(own.decode_error(own.encode_error(error)), Counting)
    assert seen == ["once"]


LIBRARY = [
    cls
    for cls in vars(errors).values()
    if isinstance(cls, type) and issubclass(cls, OffbookError) and hasattr(cls, "__match_args__")
]


@pytest.mark.parametrize("cls", LIBRARY, ids=lambda cls: cls.__name__)
def test_every_error_of_the_library_keeps_its_fields(cls: Any) -> None:
    values: dict[str, Any] = {"seconds": 1.5, "size": 1, "limit": 2, "record": 3, "attributes": {}}
    values |= {"cause": ValueError("inner")}
    given_fields = {f.name: values.get(f.name, f"the {f.name}") for f in fields(cls)}
    error = cls(**given_fields)
    found = crossed(error)
    assert type(found) is cls
    assert str(found) == str(error)
    for name, value in given_fields.items():
        other = getattr(found, name)
        assert (repr(other) if name == "cause" else other) == (
            repr(value) if name == "cause" else value
        )


@pytest.mark.parametrize("module", ["offbook", "offbook.actors.errors"])
def test_an_error_is_named_by_the_face_and_known_by_its_former_name(module: str) -> None:
    assert repr(errors.RunNotFound) == "<class 'offbook.RunNotFound'>"
    assert DEFAULT.key_of(errors.RunNotFound) == "offbook:RunNotFound"
    assert DEFAULT.class_named(f"{module}:RunNotFound") is errors.RunNotFound
    assert DEFAULT.class_named(f"{module}:Callable") is None


def test_a_cause_that_is_also_an_attribute_is_one_exception() -> None:
    inner = ValueError("inner")
    error = RunFailed("r", inner)
    error.__cause__ = inner
    found = crossed(error)
    assert found.cause is found.__cause__
    assert found.args[1] is found.cause


@pytest.mark.parametrize(
    "after", [None, 5, 1.5, dt.timedelta(minutes=1), dt.datetime(2024, 1, 1, tzinfo=dt.UTC)]
)
def test_the_time_of_a_retry_is_kept(after: Any) -> None:
    found = crossed(RetryableError("busy", after=after))
    assert type(found) is RetryableError
    assert found.after == after


def test_fatal_errors_stay_fatal_with_their_cause() -> None:
    error = FatalError("bad card")
    error.__cause__ = TypeError("number")
    found = crossed(error)
    assert type(found) is FatalError
    assert repr(found.__cause__) == "TypeError('number')"


# Chains


def test_cause_context_and_suppression_are_kept() -> None:
    error, second, first = TypeError("c"), ValueError("b"), KeyError("a")
    error.__cause__, error.__context__, second.__context__ = first, second, first
    found = crossed(error)
    assert repr(found.__cause__) == "KeyError('a')"
    assert repr(found.__context__) == "ValueError('b')"
    assert found.__context__.__context__ is found.__cause__
    assert found.__suppress_context__ is True


def test_a_context_without_cause_is_not_suppressed() -> None:
    error = ValueError("b")
    error.__context__ = KeyError("a")
    found = crossed(error)
    assert (found.__cause__, found.__suppress_context__) == (None, False)
    assert isinstance(found.__context__, KeyError)


def test_a_chain_that_bites_its_tail_is_stored_once() -> None:
    first, second = ValueError(1), ValueError(2)
    first.__cause__, second.__cause__ = second, first
    found = crossed(first)
    assert found.__cause__.__cause__ is found


def test_a_long_chain_ends_at_a_limit() -> None:
    error: BaseException = ValueError(0)
    for i in range(3 * failures.NODES):
        outer = ValueError(i)
        outer.__cause__ = outer.__context__ = error
        error = outer
    found, length = crossed(error), 0
    while found is not None:
        found, length = found.__cause__, length + 1
    assert length == failures.NODES


def test_an_error_that_holds_itself_crosses() -> None:
    error = ValueError("me")
    error.me = error  # type: ignore[attr-defined]
    error.args = (error, "x")
    found = crossed(error)
    assert found.me is found
    assert found.args[0] is found


def test_errors_in_containers_cross_as_values() -> None:
    error = ValueError("outer")
    error.errors = [KeyError("a"), {"b": TypeError("c")}]  # type: ignore[attr-defined]
    assert repr(crossed(error).errors) == "[KeyError('a'), {'b': TypeError('c')}]"


def test_an_exception_is_a_value_like_others() -> None:
    value = {"errors": [ValueError("a"), SystemExit(3)], "group": ExceptionGroup("g", [KeyError()])}
    found = codec.decode(codec.encode(value, "value"))
    assert repr(found) == repr(value)
    assert isinstance(codec.decode(codec.encode(ValueError("a")), Exception), ValueError)
    with pytest.raises(PayloadMismatch):
        codec.decode(codec.encode(ValueError("a")), KeyError)


# Groups


def test_a_group_keeps_its_members_recursively() -> None:
    shared = ValueError("shared")
    group: ExceptionGroup[Exception] = ExceptionGroup(
        "outer", [shared, ExceptionGroup("inner", [KeyError("k"), shared]), Declined("v", limit=1)]
    )
    group.add_note("a note")
    found: Any = crossed(group)
    assert repr(found) == repr(group)
    assert class_of(found) is ExceptionGroup
    assert found.exceptions[0] is found.exceptions[1].exceptions[1]
    assert found.__notes__[0] == "a note"
    assert found.exceptions[2].card == "v"


def test_a_group_of_base_exceptions_stays_one() -> None:
    found = crossed(BaseExceptionGroup("g", [asyncio.CancelledError(), ValueError()]))
    assert type(found) is BaseExceptionGroup
    assert isinstance(found.exceptions[0], asyncio.CancelledError)


def test_a_class_of_groups_keeps_its_class_and_state() -> None:
    found = crossed(members(ValueError(1)))
    assert type(found) is Members
    assert (found.message, found.extra) == ("m", [1, (2,)])


def test_a_group_of_an_unknown_class_is_still_a_group() -> None:
    found = crossed(members(ValueError(1), Declined("v", limit=1)), Codec())
    assert type(found) is ExceptionGroup
    assert isinstance(found.exceptions[0], ValueError)
    assert isinstance(found.exceptions[1], StepFailed)
    assert found.exceptions[1].attributes == {"card": "v", "limit": 1}


def test_a_huge_group_says_what_it_lost() -> None:
    found = crossed(ExceptionGroup("g", [ValueError(i) for i in range(failures.NODES + 9)]))
    assert len(found.exceptions) == failures.NODES - 1
    assert found.__notes__[0] == "10 more exceptions were not stored"


# Unknown classes


def test_an_unknown_class_becomes_step_failed_with_everything() -> None:
    def fail() -> None:
        raise Declined("visa", limit=5) from KeyError("k")

    with pytest.raises(Declined) as caught:
        fail()
    caught.value.add_note("a note")
    found = crossed(caught.value, Codec())
    assert type(found) is StepFailed
    assert (found.step, found.message) == ("charge", "visa declined")
    assert found.type.endswith("test_failures.Declined")
    assert found.attributes == {"card": "visa", "limit": 5}
    assert "in fail" in found.traceback
    assert repr(found.__cause__) == "KeyError('k')"
    assert found.__notes__[0] == "a note"
    assert "in fail" in cast("Any", found).remote_traceback


def test_step_failed_crosses_again_unchanged() -> None:
    found = crossed(Declined("visa", limit=5), Codec())
    again = crossed(found, Codec())
    assert type(again) is StepFailed
    assert (again.type, again.attributes) == (found.type, found.attributes)


class Picky(pydantic.BaseModel):
    a: int


def test_what_cannot_be_made_by_new_becomes_step_failed() -> None:
    with pytest.raises(pydantic.ValidationError) as caught:
        Picky.model_validate({"a": "x"})
    own = Codec()
    own.register(pydantic.ValidationError)
    for reader in (codec, own):
        found = reader.decode_error(own.encode_error(caught.value))
        assert isinstance(found, StepFailed)
        assert "1 validation error for Picky" in found.message


class Broken(Exception):
    def __str__(self) -> str:
        return self.nowhere  # type: ignore[attr-defined,no-any-return]


class Hidden(Exception):
    def __init__(self) -> None:
        self.secret = object()

    def __str__(self) -> str:
        return f"hidden {self.secret}"


class Rude(Exception):
    def __repr__(self) -> str:
        raise SystemError("rude")


def test_a_class_that_cannot_speak_becomes_step_failed() -> None:
    broken = crossed(Broken())
    assert (type(broken), broken.message) == (StepFailed, "<Broken without text>")
    hidden = crossed(Hidden())
    assert (type(hidden), hidden.message) == (StepFailed, "hidden <object object>")
    assert type(crossed(ValueError(Rude()))) is ValueError


def test_what_cannot_be_stored_is_text_in_arguments_and_absent_in_attributes() -> None:
    error = ValueError(object(), lambda: None, "fine", "lone \ud800")
    error.a, error.b = sys, [1]  # type: ignore[attr-defined]
    found = crossed(error)
    assert found.args[0] == "<object object>"
    assert found.args[1].startswith("<function")
    assert found.args[2:] == ("fine", "'lone \\ud800'")
    assert (hasattr(found, "a"), found.b) == (False, [1])


def test_the_same_error_is_the_same_bytes_without_its_frames() -> None:
    def fail() -> None:
        raise ValueError(object(), "x") from KeyError("k")

    def made() -> bytes:
        return codec.encode_error(raised(fail), local=False)

    assert made() == made()
    assert codec.encode(ValueError("x")) == codec.encode_error(ValueError("x"), local=False)


def test_an_attribute_of_a_class_unknown_here_is_plain_there() -> None:
    class Local:
        def __init__(self) -> None:
            self.a = 1

    own = Codec()
    own.register(Local, name="local")
    error = ValueError(Local())
    error.local = Local()  # type: ignore[attr-defined]
    found: Any = codec.decode_error(own.encode_error(error))
    assert found.local == {"class": "local", "state": {"a": 1}}
    assert found.args == ({"class": "local", "state": {"a": 1}},)


def test_an_error_above_the_limit_is_cut_to_its_text() -> None:
    small = Codec(total_limit=20_000)
    found = small.decode_error(small.encode_error(ValueError("x" * 100_000)))
    assert isinstance(found, FatalError)
    assert str(found).startswith("ValueError: xxxx")


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()], ids=repr)
def test_an_exit_is_only_a_value(error: BaseException) -> None:
    assert repr(crossed(error)) == repr(error)
    assert codec.plain(codec.encode_error(error))["type"] == type(error).__name__


# Tracebacks


def raised(fn: Callable[[], object]) -> Any:
    try:
        fn()
    except Exception as error:  # noqa: BLE001 - any of them
        return error
    raise AssertionError


def charge_the_card() -> None:
    raise Declined("visa", limit=5)


def hop(error: BaseException) -> Any:
    def body_of_the_workflow() -> None:
        raise crossed(error)

    return raised(body_of_the_workflow)


def test_a_user_sees_the_remote_frames() -> None:
    found = hop(raised(charge_the_card))
    text = "".join(traceback.format_exception(found))
    assert "in charge_the_card" in found.remote_traceback
    assert "Remote traceback of step 'charge':" in text
    assert 'raise Declined("visa", limit=5)' in text
    assert "in body_of_the_workflow" in text


def test_a_traceback_does_not_grow_with_every_hop() -> None:
    found = hop(raised(charge_the_card))
    lengths: list[int] = []
    for _ in range(5):
        found = hop(found)
        lengths.append(len(codec.encode_error(found)))
        assert found.remote_traceback.count("in charge_the_card") == 1
        assert found.remote_traceback.count("in body_of_the_workflow") == 1
        assert len(found.__notes__) == 1
    assert len(set(lengths)) == 1


def test_notes_of_users_are_kept_over_hops() -> None:
    error = raised(charge_the_card)
    error.add_note("first")
    found = hop(hop(error))
    assert [note for note in found.__notes__ if "Remote" not in note] == ["first"]


def test_strange_notes_do_no_harm() -> None:
    error = ValueError("x")
    error.__notes__ = "not a list"  # type: ignore[assignment]
    assert not hasattr(crossed(error), "__notes__")
    error.__notes__ = ["fine", 5, "\ud800"]  # type: ignore[list-item]
    assert crossed(error).__notes__ == ["fine", "\\ud800"]


def test_a_deep_traceback_is_cut() -> None:
    def deep(n: int) -> None:
        if n == 0:
            raise ValueError("bottom")
        deep(n - 1)

    found = crossed(raised(lambda: deep(300)))
    assert len(found.remote_traceback) <= failures.TEXT
    assert "bottom" in found.remote_traceback


def test_frames_of_the_library_are_left_out() -> None:
    def through_the_library() -> None:
        Codec().decode(b"\xc1")

    found = crossed(raised(through_the_library))
    assert "in through_the_library" in found.remote_traceback
    assert str(Path(failures.__file__).parent) not in found.remote_traceback


def test_the_report_for_people_has_it_all() -> None:
    error = raised(charge_the_card)
    error.__cause__ = HookConflict("token", "run")
    report = codec.plain(codec.encode_error(ExceptionGroup("g", [error])))
    member = report["exceptions"][0]
    assert (report["type"], report["message"]) == ("ExceptionGroup", "g (1 sub-exception)")
    assert member["message"] == "visa declined"
    assert member["attributes"] == {"card": "visa", "limit": 5}
    assert "in charge_the_card" in member["traceback"]
    assert member["cause"]["attributes"] == {"token": "token", "owner": "run"}


# Hostile nodes


def node(**changes: Any) -> list[Any]:
    fields_: dict[str, Any] = {
        "key": "builtins:ValueError",
        "message": "m",
        "args": [],
        "attributes": {},
        "notes": [],
        "cause": None,
        "context": None,
        "suppress": False,
        "members": [],
        "group": False,
        "traceback": "",
    }
    return list((fields_ | changes).values())


def read(nodes: object) -> BaseException:
    return failures.decode(nodes, codec.decode, {"builtins:ValueError": ValueError}.get, "s")


BAD: dict[str, dict[str, Any]] = {
    "key": {"key": 5},
    "message": {"message": b"m"},
    "args": {"args": {}},
    "an arg": {"args": ["text"]},
    "no arg": {"args": [None]},
    "an arg beyond": {"args": [7]},
    "a negative arg": {"args": [-1]},
    "a boolean arg": {"args": [True]},
    "damaged arg": {"args": [b"\xc1"]},
    "attributes": {"attributes": []},
    "special attribute": {"attributes": {"__class__": b"\x01"}},
    "attribute by number": {"attributes": {1: b"\x01"}},
    "notes": {"notes": [1]},
    "cause": {"cause": 1},
    "context": {"context": "0"},
    "suppress": {"suppress": 1},
    "members": {"members": [1]},
    "no member": {"members": [None], "group": True},
    "own member": {"members": [0], "group": True},
    "group": {"group": None},
    "traceback": {"traceback": None},
}


@pytest.mark.parametrize("changes", BAD.values(), ids=BAD)
def test_broken_nodes_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        read([node(**changes)])


def test_groups_that_multiply_are_refused() -> None:
    nodes = [node(members=[i + 1, i + 1], group=True) for i in range(40)]
    with pytest.raises(ValueError, match="share too many members"):
        read([*nodes, node()])


def test_a_group_without_members_degrades() -> None:
    assert isinstance(read([node(group=True)]), StepFailed)


def test_a_good_node_is_read() -> None:
    assert repr(read([node(args=[b"\x01"])])) == "ValueError(1)"


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "args": st.lists(st.integers(0, 4) | st.just(b"\x01"), max_size=2),
                "cause": st.none() | st.integers(0, 4),
                "context": st.none() | st.integers(0, 4),
                "members": st.lists(st.integers(0, 4), max_size=3),
                "group": st.booleans(),
            }
        ),
        min_size=1,
        max_size=5,
    )
)
def test_any_graph_of_nodes_is_read_or_refused(graph: list[dict[str, Any]]) -> None:
    try:
        found = read([node(**changes) for changes in graph])
    except ValueError:
        return
    assert isinstance(found, BaseException)
    assert codec.encode_error(found)
