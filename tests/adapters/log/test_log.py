"""Log lines: quiet by default, bound to their attempt, without payloads."""

import asyncio
import contextvars
import io
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from offbook.actors.model import Head
from offbook.actors.ports import Attempt
from offbook.adapters.log import AttemptFilter, LogObserver, bound

AT = 1_700_000_000_000_000


def head() -> Head:
    return Head(
        run="run_1",
        workflow="checkout",
        deployment="default",
        input=b"input-canary",
        digest="d",
        seed=b"seed-canary",
        nonce="n",
        at=AT,
        python="3.11",
    )


def attempt(run: str = "run_1", number: int = 1) -> Attempt:
    names = (run, "checkout", "0-1", "charge")
    return Attempt(*names, number, "default", remote=False, queued=AT, trace={})


def end(status: str = "completed", **more: object) -> dict[str, Any]:
    return {"status": status, "at": AT + 2_500_000, "error": None, "error_code": "", **more}


@pytest.fixture
def output() -> Iterator[io.StringIO]:
    """What a plain handler on the logger `offbook` writes."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s"))
    logger = logging.getLogger("offbook")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield stream
    logger.removeHandler(handler)
    logger.setLevel(before)


def play(observer: LogObserver) -> None:
    observer.start(head())
    with observer.attempt(attempt()):
        pass
    observer.turn(head(), {"n": 1, "events": 2, "commands": 1, "waits": []})
    observer.ended(head(), end())


def test_it_is_quiet_and_configures_nothing_by_default() -> None:
    code = """
import structlog
from offbook.adapters.log import LogObserver
LogObserver().log("critical", "takeover failed", run="run_1")
assert not structlog.is_configured()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")


def test_nothing_but_the_application_imports_structlog() -> None:
    """It takes a quarter of the time until a worker serves."""
    code = """
import sys, logging
import offbook, offbook.ops.cli.work, offbook.adapters.otel
from offbook.adapters.log import LogObserver
logging.basicConfig(level="DEBUG", stream=sys.stdout)
LogObserver().log("warning", "takeover failed", run="run_1")
assert "structlog" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "WARNING:offbook:takeover failed run=run_1\n"


def test_a_step_that_imports_structlog_has_its_fields_too() -> None:
    code = """
from offbook.actors.ports import Attempt
from offbook.adapters.log import LogObserver
attempt = Attempt("run_1", "w", "0-1", "s", 1, "default", remote=False, queued=0, trace={})
with LogObserver().attempt(attempt):
    import structlog
    print(structlog.contextvars.get_contextvars()["run"])
structlog.contextvars.bind_contextvars(run="outer")
with LogObserver().attempt(attempt):
    print(structlog.contextvars.get_contextvars()["run"])
print(structlog.contextvars.get_contextvars()["run"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["run_1", "run_1", "outer"]


def test_a_plain_handler_shows_event_and_fields(output: io.StringIO) -> None:
    play(LogObserver())
    lines = output.getvalue().splitlines()
    assert lines[0] == "DEBUG offbook run started run=run_1 workflow=checkout"
    assert lines[1].startswith(
        "DEBUG offbook step attempted run=run_1 step=0-1 attempt=1 name=charge workflow=checkout "
    )
    assert lines[2] == (
        "DEBUG offbook turn committed run=run_1 workflow=checkout n=1 events=2 commands=1"
    )
    assert lines[3] == (
        "INFO offbook run ended run=run_1 workflow=checkout status=completed seconds=2.5"
    )


def test_a_structlog_formatter_gets_the_fields(output: io.StringIO) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.stdlib.add_log_level,
                structlog.processors.JSONRenderer(),
            ]
        )
    )
    logger = logging.getLogger("offbook")
    logger.addHandler(handler)
    try:
        LogObserver().ended(head(), end("failed", error_code="step-failed"))
    finally:
        logger.removeHandler(handler)
    assert json.loads(stream.getvalue()) == {
        "event": "run ended",
        "level": "warning",
        "run": "run_1",
        "workflow": "checkout",
        "status": "failed",
        "error_code": "step-failed",
        "seconds": 2.5,
    }
    assert "error_code=step-failed" in output.getvalue()


def test_user_lines_carry_run_step_and_attempt_within_a_step(output: io.StringIO) -> None:
    with LogObserver().attempt(attempt(number=3)):
        merged = structlog.contextvars.merge_contextvars(None, "info", {"event": "charged"})
        record = logging.makeLogRecord({"msg": "charged"})
        assert AttemptFilter().filter(record)
        assert bound()["name"] == "charge"
    assert merged == {"event": "charged", "run": "run_1", "step": "0-1", "attempt": 3}
    found = record.__dict__
    assert (found["run"], found["step"], found["attempt"]) == ("run_1", "0-1", 3)
    assert "step attempted" in output.getvalue()


def test_nothing_is_bound_outside_of_steps() -> None:
    with pytest.raises(ValueError, match="no funds"), LogObserver().attempt(attempt()):
        raise ValueError("no funds")
    record = logging.makeLogRecord({"msg": "idle", "run": "mine"})
    AttemptFilter().filter(record)
    assert bound() == {}
    assert structlog.contextvars.get_contextvars() == {}
    assert (record.__dict__["run"], record.__dict__["step"]) == ("mine", "-")


def test_what_was_bound_around_a_step_is_bound_after_it() -> None:
    with structlog.contextvars.bound_contextvars(run="outer"), LogObserver().attempt(attempt()):
        assert structlog.contextvars.get_contextvars()["run"] == "run_1"
    with structlog.contextvars.bound_contextvars(run="outer"):
        with LogObserver().attempt(attempt()):
            pass
        assert structlog.contextvars.get_contextvars() == {"run": "outer"}


def test_a_thread_with_the_steps_context_is_bound_too() -> None:
    found: list[dict[str, Any]] = []
    with LogObserver().attempt(attempt()):
        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(lambda: found.append(bound()),))
        thread.start()
        thread.join()
    assert found[0]["run"] == "run_1"


async def test_attempts_side_by_side_do_not_mix() -> None:
    both = asyncio.Barrier(2)

    async def body(run: str) -> str:
        with LogObserver().attempt(attempt(run)):
            await both.wait()
            name: str = structlog.contextvars.get_contextvars()["run"]
            await both.wait()
            return f"{name} {bound()['run']}"

    shown = await asyncio.gather(body("run_1"), body("run_2"))
    assert list(shown) == ["run_1 run_1", "run_2 run_2"]


def test_a_failed_attempt_is_a_warning_with_the_kind_of_error_only(output: io.StringIO) -> None:
    told = attempt()
    with LogObserver().attempt(told):
        told.outcome, told.error = "retrying", ValueError("text-canary")
    line = output.getvalue()
    assert line.startswith("WARNING offbook step attempted")
    assert "outcome=retrying" in line
    assert "error_type=ValueError" in line
    assert "text-canary" not in line


def refuse() -> None:
    raise ValueError("no funds\nat all")


def test_with_details_a_failure_is_told_with_its_text_and_line(output: io.StringIO) -> None:
    told = attempt()
    with LogObserver(details=True).attempt(told):
        with pytest.raises(ValueError, match="no funds") as caught:
            refuse()
        told.outcome, told.error = "failed", caught.value
    LogObserver(details=True).ended(head(), end("failed", error=told.error))
    for line in output.getvalue().splitlines():
        assert "error_type=ValueError" in line
        assert f"line={__file__}:" in line
        assert line.endswith(" error=no funds")


def test_payloads_seeds_and_error_texts_are_never_logged(output: io.StringIO) -> None:
    play(LogObserver())
    LogObserver().ended(head(), end("failed", error="text-canary"))
    assert "run ended" in output.getvalue()
    assert "canary" not in output.getvalue()


@pytest.mark.parametrize(
    "name",
    ["token", "hook_token", "password", "client_secret", "Authorization", "api_key", "cookie"],
)
def test_values_with_the_name_of_a_secret_are_blanked(output: io.StringIO, name: str) -> None:
    LogObserver().log("info", "hook opened", **{name: "canary", "kind": "hook"})
    assert f"{name}=*** kind=hook" in output.getvalue()
    assert "canary" not in output.getvalue()


def test_lines_below_the_level_are_dropped(output: io.StringIO) -> None:
    logging.getLogger("offbook").setLevel(logging.WARNING)
    play(LogObserver())
    LogObserver().log("strange", "counts as info")
    LogObserver().log("error", "shown")
    assert output.getvalue() == "ERROR offbook shown\n"
