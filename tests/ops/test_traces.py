"""How a stored exception is shown: the user's line, and a traceback as Python would print it."""

import threading
from pathlib import Path

import pytest

from offbook import NotSerializable, RunFailed, step, workflow
from offbook.actors.codec import Codec
from offbook.actors.where import raising_line
from offbook.ops.cli.output import to_json
from offbook.ops.cli.traces import as_data, line_of, traceback_text
from offbook.testing import Environment, run

MODULE = """
import json


class Boom(Exception):
    pass


def inner(text):
    json.loads(text)


def outer(text):
    try:
        inner(text)
    except ValueError as error:
        raise Boom("no\\nway") from error
"""


@step
async def lock() -> object:
    return threading.Lock()


@workflow
async def uses_a_lock() -> None:
    await lock()


def stored(tmp_path: Path, call: str) -> BaseException:
    """Return what another process reads of an exception that a user's module raised."""
    file = tmp_path / "user.py"
    file.write_text(MODULE)
    scope: dict[str, object] = {"__name__": "user", "Group": ExceptionGroup}
    exec(compile(MODULE, str(file), "exec"), scope)
    try:
        eval(compile(call, str(file), "eval"), scope)
    except BaseException as error:  # noqa: BLE001 - whatever it raises
        data = Codec().encode_error(error)
        return Codec().decode_error(data)
    raise AssertionError(f"{call} raised nothing")


def test_the_line_is_the_users_and_not_that_of_a_library(tmp_path: Path) -> None:
    line = next(i for i, text in enumerate(MODULE.splitlines(), 1) if "json.loads" in text)
    assert raising_line(stored(tmp_path, "inner('x')")) == f"{tmp_path}/user.py:{line} in inner"


def test_the_line_of_a_result_that_cannot_be_stored_is_that_of_the_call() -> None:
    async def main() -> None:
        async with Environment() as env:
            handle = await env.client.start(uses_a_lock)
            with pytest.raises(RunFailed) as failed:
                await handle.result()
        assert isinstance(failed.value.cause, NotSerializable)
        assert raising_line(failed.value.cause).startswith(f"{__file__}:")
        assert raising_line(failed.value.cause).endswith(" in uses_a_lock")

    run(main())


def test_a_line_below_the_working_directory_is_shown_from_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = stored(tmp_path, "inner('x')")
    assert line_of(error).startswith(f"{tmp_path}/user.py:")
    monkeypatch.chdir(tmp_path)
    assert line_of(error).startswith("user.py:")


def test_a_traceback_has_the_cause_first_and_the_class_that_is_not_known_here(
    tmp_path: Path,
) -> None:
    text = traceback_text(stored(tmp_path, "outer('x')"))
    first, _, second = text.partition("\nThe above exception was the direct cause of")
    assert "JSONDecodeError: Expecting value" in first
    assert " in inner\n" in first
    assert second.endswith("user.Boom: no\nway")
    assert "Remote traceback" not in text


def test_an_error_without_frames_is_its_text_alone() -> None:
    error = ValueError("plain")
    assert (raising_line(error), traceback_text(error)) == ("", "ValueError: plain")
    assert as_data(error) == {"type": "ValueError", "message": "plain"}


def test_the_members_of_a_group_are_shown() -> None:
    group = ExceptionGroup("both", [ValueError("one"), LookupError("two")])
    text = traceback_text(Codec().decode_error(Codec().encode_error(group)))
    assert text.splitlines() == [
        "ExceptionGroup: both (2 sub-exceptions)",
        "  --- 1 of 2 ---",
        "  ValueError: one",
        "  --- 2 of 2 ---",
        "  LookupError: two",
    ]


def test_errors_that_are_each_others_cause_end() -> None:
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    assert traceback_text(one).count("ValueError") == 2


def test_json_has_line_and_traceback(tmp_path: Path) -> None:
    shown = to_json({"error": stored(tmp_path, "outer('x')")})
    assert '"line": ' in shown
    assert "Traceback (most recent call last)" in shown
