"""`offbook dev`: the worker starts again when the code changes, and runs go on."""

import json
import os
import signal
from pathlib import Path

import pytest

from offbook.ops.cli.dev import snapshot
from support.commands import Place

APP = """
from offbook import hook, step, workflow


@step
def greet(name: str) -> str:
    return "old " + name


@workflow
async def hello(name: str) -> str:
    await hook(bool, token="go")
    return await greet(name)


@workflow
async def broken() -> None:
    raise LookupError("nobody there")
"""


def write(file: Path, text: str) -> None:
    """Replace a file at once, so that nobody reads half of it."""
    draft = file.with_suffix(".txt")
    draft.write_text(text)
    draft.replace(file)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_run_goes_on_with_the_changed_code(tmp_path: Path) -> None:
    app = tmp_path / "app.py"
    write(app, APP)
    place = Place(tmp_path)
    with place.background("dev", "app", "--json") as dev:
        dev.until(event="watching")
        dev.until(ready=True)
        place("start", "app:hello", "Ada", "--id", "one")
        assert place("start", "app:broken", "--wait").code == 1
        [line] = [line for line in dev.errors.read_text().splitlines() if "run ended" in line]
        told = json.loads(line)
        assert (told["level"], told["error"]) == ("warning", "nobody there")
        assert "app.py" in told["line"]

        write(app, APP + "\nsyntax error\n")
        assert dev.until(event="restart")["changed"] == [str(app)]
        assert dev.until(event="worker-ended")["exit_code"] == 2
        assert "SyntaxError" in dev.errors.read_text()

        write(app, APP.replace("old", "new"))
        dev.until(event="restart")
        second = dev.until(ready=True)
        place("resume", "go", "true")
        assert place("result", "one").out == "new Ada\n"
        assert dev.stop() == 0
    with pytest.raises(ProcessLookupError):
        os.kill(second["pid"], 0)


TWO = APP.replace('await hook(bool, token="go")', "await hook(bool, token=name)")
TURNED = TWO.replace(
    "    await hook(bool, token=name)\n    return await greet(name)",
    "    greeting = await greet(name)\n    await hook(bool, token=name)\n    return greeting",
)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_dev_restart_policy(tmp_path: Path) -> None:
    """A restart cancels no run: what fits the code goes on, what does not says so and waits."""
    app = tmp_path / "app.py"
    write(app, TWO)
    place = Place(tmp_path)

    def restart(text: str) -> None:
        write(app, text)
        dev.until(event="restart")
        dev.until(ready=True)

    def status(run: str) -> str:
        found: str = place("show", run, "--json").data["status"]
        return found

    def is_open(token: str) -> bool:
        return bool(place("show", token, "--json").data["waits"])

    assert TURNED != TWO
    with place.background("dev", "app", "--json") as dev:
        dev.until(ready=True)
        for name in ("Ada", "Bob"):
            place("start", "app:hello", name, "--id", name)
            while not is_open(name):
                pass
        restart(TWO.replace("old", "new"))
        place("resume", "Ada", "true")
        assert place("result", "Ada").out == "new Ada\n", "the code fits: it goes on"

        restart(TURNED)
        place("resume", "Bob", "true")
        while status("Bob") != "blocked":
            pass
        shown = place("show", "Bob", "--json").data
        assert shown["reason"] == "nondeterminism"

        restart(TWO)
        assert place("result", "Bob").out == "old Bob\n", "nothing is lost by waiting"
        assert [status(name) for name in ("Ada", "Bob")] == ["completed", "completed"]
        assert dev.stop() == 0


@pytest.mark.slow
def test_the_worker_goes_when_dev_is_killed(tmp_path: Path) -> None:
    write(tmp_path / "app.py", APP)
    with Place(tmp_path).background("dev", "app", "--json") as dev:
        worker = dev.until(ready=True)
        dev.process.send_signal(signal.SIGKILL)
        # The pipe ends when the last one that could write into it is gone.
        assert dev.until(draining=True)["worker"] == worker["worker"]


def test_hidden_folders_and_environments_are_not_watched(tmp_path: Path) -> None:
    for name in (".hidden", "env", "__pycache__", "pkg"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.py").touch()
    (tmp_path / "env" / "pyvenv.cfg").touch()
    (tmp_path / "b.py").touch()
    (tmp_path / "c.txt").touch()
    found = snapshot([tmp_path])
    assert sorted(found) == [str(tmp_path / "b.py"), str(tmp_path / "pkg" / "a.py")]


def test_a_change_of_size_or_time_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text("x = 1")
    first = snapshot([tmp_path])
    assert snapshot([tmp_path]) == first
    file.write_text("x = 12")
    assert snapshot([tmp_path]) != first
