"""What people see: help, events as lines, times to come, names that are nearly right."""

import errno
import re
import signal
import socket
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from offbook import hook, workflow
from offbook.actors.run import RunEvent, RunView, StepView
from offbook.actors.summary import Summary
from offbook.ops.cli import cli
from offbook.ops.cli.explain import known, page_of
from offbook.ops.cli.failures import report
from offbook.ops.cli.group import Commands
from offbook.ops.cli.output import count, due, size
from offbook.ops.cli.show import event_line
from offbook.testing import Environment, run
from support.commands import Place

NOW = datetime(2030, 1, 31, 12, 0, 0, tzinfo=UTC)
MICROS = round(NOW.timestamp() * 1e6)


@workflow
async def answered() -> None:
    await hook(bool, token="screen")


def event(kind: str, **data: object) -> RunEvent:
    return RunEvent(12, 0, kind, NOW, "0_0", "shop.charge", dict(data))


def test_an_event_is_a_short_line_of_facts() -> None:
    data = {"args": {"x": 1}, "queue": "default", "options": {"retry": [6, 1.0]}, "remote": False}
    line = event_line(event("step_scheduled", **data))
    facts = 'shop.charge 0_0  args={"x": 1} queue=default'
    assert line == f"  12  2030-01-31 12:00:00Z  step_scheduled    {facts}"
    assert '"options"' in event_line(event("step_scheduled", **data), verbose=True)


def test_what_somebody_answered_is_shown_also_where_it_is_no_or_nothing() -> None:
    values: list[object] = [False, 0, "", []]
    shown = [event_line(event("hook_received", payload=value)) for value in values]
    assert [line.rpartition("payload=")[2] for line in shown] == ["false", "0", '""', "[]"]
    assert "result" not in event_line(event("step_completed", result=None))


def test_times_of_an_event_are_told_as_people_read_them() -> None:
    times = {"started": MICROS, "ended": MICROS + 2_000, "due": MICROS + 60_000_000}
    line = event_line(event("step_retrying", attempt=1, nonce="abc", error="E: no\nway", **times))
    assert line.endswith("attempt=1 error=E: no took=2ms due=2030-01-31 12:01:00Z")


@pytest.mark.parametrize(
    ("seconds", "shown"), [(300, "in 5m"), (-34, "overdue by 34s"), (0, "overdue by 0ms")]
)
def test_what_should_have_been_is_overdue(seconds: float, shown: str) -> None:
    assert due(NOW + timedelta(seconds=seconds), NOW) == shown


def test_a_run_that_starts_later_says_when() -> None:
    async def main() -> None:
        async with Environment() as env:
            handle = await env.client.start(answered, at=timedelta(hours=1))
            await env.wait_for(handle, "run_created")
            [wait] = (await handle.view()).waits
            [summary] = [summary async for summary in env.client.runs()]
            assert (wait["kind"], summary.status) == ("start", "pending")
            assert round(wait["due"].timestamp() * 1e6) == summary.next_wake
            await env.wait_for_hook(handle)
            assert [w["kind"] for w in (await handle.view()).waits] == ["hook"]

    run(main())


def test_numbers_have_their_units() -> None:
    assert [count(1, "run"), count(0, "run"), count(2_000, "run")] == [
        "1 run",
        "0 runs",
        "2,000 runs",
    ]
    assert [size(n) for n in (None, 5, 146_771, 2**31)] == ["", "5 bytes", "143.3 KiB", "2.0 GiB"]


# Help


def test_the_list_of_commands_fits_and_nothing_of_it_is_cut(tmp_path: Path) -> None:
    text = Place(tmp_path).inside("--help").out
    listed = text.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()
    assert len(listed) > 20
    assert not [line for line in listed if line.endswith("...")]
    assert max(map(len, text.splitlines())) <= 80


def test_the_help_of_a_command_begins_with_its_own_options(tmp_path: Path) -> None:
    text = Place(tmp_path).inside("start", "--help").out
    assert text.index("--on-conflict") < text.index("--url")
    check = Place(tmp_path).inside("check", "--help").out
    assert ("--url" in check, "--json" in check) == (False, True)


@pytest.mark.parametrize(("typed", "meant"), [("strat", "start"), ("evnts", "events")])
def test_a_command_that_is_nearly_right_is_told_the_right_one(
    tmp_path: Path, typed: str, meant: str
) -> None:
    done = Place(tmp_path).inside(typed)
    assert (done.code, f"Did you mean '{meant}'?" in done.err) == (2, True)
    assert isinstance(cli, Commands)


@pytest.mark.parametrize("name", ["no_such_module_here", "no_such.module_here", "app.py"])
def test_dev_does_not_wait_for_a_module_that_is_not_there(tmp_path: Path, name: str) -> None:
    done = Place(tmp_path).inside("dev", name)
    assert done.code == 2
    assert not (tmp_path / ".offbook").exists()


def test_a_server_that_is_not_running_is_nothing_bad(tmp_path: Path) -> None:
    done = Place(tmp_path).inside("server", "status")
    assert done.code == 4
    assert done.out.startswith("not running: the next command or worker that needs it starts it\n")
    assert "problem" not in done.out


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_worker_that_is_stopped_while_it_connects_ends_without_a_traceback(
    tmp_path: Path, number: signal.Signals
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"nats://127.0.0.1:{mute.getsockname()[1]}"
        with Place(tmp_path).background("worker", "app", "--url", url) as worker:
            connection, _ = mute.accept()
            with connection:
                assert worker.stop(number) == 0
            assert "Traceback" not in worker.errors.read_text()


# Errors


def test_the_page_of_an_error_is_printed_by_code_and_by_class(tmp_path: Path) -> None:
    place = Place(tmp_path)
    page = (Path(__file__).parents[2] / "docs" / "errors" / "run-blocked.md").read_text()
    assert place.inside("explain", "run-blocked").out == page
    assert place.inside("explain", "offbook.RunBlocked").out == page
    shown = place.inside("explain", "run-blocked", "--json").data
    assert (shown["class"], shown["page"]) == ("RunBlocked", page)


def test_the_codes_are_listed_and_a_wrong_one_is_told_a_right_one(tmp_path: Path) -> None:
    place = Place(tmp_path)
    listed = place.inside("explain").out
    assert all(f"\n{code} " in listed for code in known())
    wrong = place.inside("explain", "run-bloked")
    assert (wrong.code, "did you mean 'run-blocked'?" in wrong.err) == (2, True)


def test_every_error_has_its_page_here() -> None:
    assert [c for c, cls in known().items() if not page_of(cls).startswith("# ")] == []
    assert len(known()) > 40
    index = (Path(__file__).parents[2] / "docs" / "errors" / "index.md").read_text()
    assert set(re.findall(r"^\| \[([a-z-]+)\]", index, re.MULTILINE)) == set(known())


# The documents of --json


def documented(row: str) -> set[str]:
    text = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
    line = next(line for line in text.splitlines() if line.startswith(f"| {row}"))
    return set(re.findall(r"`(\w+)`", line.split(" | ", 1)[1]))


@pytest.mark.parametrize(
    ("row", "cls", "more"),
    [
        ("`runs` (lines)", Summary, {"cursor"}),
        ("`show`", RunView, {"children", "where", "where_note", "sealed"}),
        ("… each of `steps`", StepView, set[str]()),
        ("`events` (lines)", RunEvent, set[str]()),
    ],
)
def test_the_page_names_the_fields_of_the_documents(row: str, cls: type, more: set[str]) -> None:
    assert documented(row) == {f.name for f in fields(cls)} | more


def test_output_that_cannot_be_written_is_told_without_a_traceback(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert report(OSError(errno.ENOSPC, "No space left on device"), as_json=False) == 1
    told = capsys.readouterr().err
    assert told == "error: the output cannot be written: No space left on device\n"
    with pytest.raises(OSError, match="elsewhere"):
        report(OSError(errno.ENOSPC, "full", "elsewhere"), as_json=False)


def test_a_timeout_of_a_start_that_does_not_wait_is_refused(tmp_path: Path) -> None:
    done = Place(tmp_path).inside("start", "json:dumps", "--timeout", "5")
    assert done.code == 2
    assert "say --wait too" in done.err
