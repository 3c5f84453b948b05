"""Command lines that are right or wrong before any server is asked."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from offbook.actors.define import registry
from offbook.ops.cli import cli

MODULE = "cli_parsing_example"
TEXT = """
from dataclasses import dataclass
from datetime import date

from pydantic import BaseModel

from offbook import step, workflow


@dataclass
class Order:
    id: str
    amount: int = 1
    due: date | None = None


class Card(BaseModel):
    number: int


@step
def note(text: str) -> str:
    return text


@workflow
async def pay(order: Order, card: Card | None = None, *notes: int, **more: date) -> None:
    await note(order.id)


@workflow
async def say(text: str, times: int = 1) -> None:
    await note(text)


picked = [say, note]
nothing: list[object] = []
wrong = [1]


def make(client):
    return 1
"""


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a module; what it registers is forgotten at the end."""
    (tmp_path / f"{MODULE}.py").write_text(TEXT)
    (tmp_path / "cli_broken_example.py").write_text("import nowhere_at_all\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("OFFBOOK_URL", "")
    yield tmp_path
    sys.modules.pop(MODULE, None)
    for table in (registry.workflows, registry.steps):
        for name in [n for n in table if n.startswith(MODULE)]:
            del table[name]


def offbook(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


def error_of(result: Result) -> dict[str, str]:
    found: dict[str, str] = json.loads(result.stderr)
    return found


def test_the_help_lists_every_command() -> None:
    shown = offbook("--help").stdout
    for name in (
        "dev", "worker", "start", "runs", "show", "events", "result", "cancel", "terminate", "wake",
        "resume", "purge", "check", "health", "doctor", "server", "namespace",
        "explain", "completion",
    ):  # fmt: skip
        assert f"\n  {name} " in shown


@pytest.mark.parametrize("name", list(cli.commands) or cli.list_commands(None))  # type: ignore[arg-type]
def test_every_command_has_help_and_takes_the_common_options(name: str) -> None:
    shown = offbook(name, "--help")
    assert shown.exit_code == 0
    assert "--json " in shown.stdout
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert {"url", "namespace", "json"} <= {parameter.name for parameter in command.params}


def test_an_unknown_command_is_a_usage_error() -> None:
    result = offbook("nonsense")
    assert result.exit_code == 2
    assert "No such command 'nonsense'" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    "arguments", [("--json", "runs", "--limit", "0"), ("runs", "--limit", "0", "--json")]
)
def test_a_usage_error_is_json_where_json_is_asked(arguments: tuple[str, ...]) -> None:
    result = offbook(*arguments)
    assert result.exit_code == 2
    assert error_of(result)["code"] == "usage"
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "missing a required argument: 'order'"),
        (['{"id": 5}'], "argument order.id: expected str, got int 5"),
        (["[]"], "argument order"),
        (['{"id": "1"}', '{"number": "x"}'], "argument card"),
        (['{"id": "1"}', "null", "1", "x"], "argument notes[0]: expected int"),
        (['{"id": "1"}', "--kwargs", "when=2030-13-01"], "argument more"),
        (['{"id": "1"}', 'order={"id":"2"}'], "multiple values for argument 'order'"),
        (["--arg", "text"], "is not JSON"),
        (["--kwargs", "text"], "no JSON object and no NAME=VALUE"),
        (["--kwargs", "{}x"], "is not JSON"),
        (["--kwargs", "a=2030-01-01", "--kwargs", '{"a": "2030-01-01"}'], "given twice"),
    ],
)
def test_arguments_are_checked_before_anything_is_sent(
    example: Path, arguments: list[str], message: str
) -> None:
    result = offbook("start", f"{MODULE}:pay", *arguments, "--json")
    assert result.exit_code == 2
    assert message in error_of(result)["message"]
    assert not (example / ".offbook").exists()


@pytest.mark.parametrize(
    ("target", "code"),
    [
        (f"{MODULE}:nope", "workflow-not-found"),
        (f"{MODULE}:note", "workflow-not-found"),
        ("cli_absent_example:x", "module-not-found"),
        ("cli_broken_example:x", "module-broken"),
        ("x", "usage"),
        (f"{MODULE}.py:say", "usage"),
    ],
)
def test_a_wrong_target_is_told(example: Path, target: str, code: str) -> None:
    result = offbook("start", target, "--json")
    assert (result.exit_code, error_of(result)["code"]) == (2, code)
    assert not (example / ".offbook").exists()


def test_a_broken_module_shows_the_end_of_its_traceback(example: Path) -> None:
    result = offbook("start", "cli_broken_example:x")
    assert str(example) in result.stderr
    assert "No module named 'nowhere_at_all'" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("cancel",),
        ("cancel", "run", "--status", "running"),
        ("terminate",),
        ("purge",),
        ("purge", "run", "--ended"),
        ("purge", "run", "--older-than", "1d"),
        ("resume", "token", "yes"),
        ("server", "status", "--url", "nats://127.0.0.1:1"),
        ("runs", "--url", "nats://127.0.0.1:1", "--folder", "x"),
        ("runs", "--attribute", "x"),
        ("runs", "--status", "sleeping"),
        ("start", "a:b", "--at", "noon"),
        ("completion", "tcsh"),
    ],
)
def test_commands_that_make_no_sense_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert offbook(*arguments).exit_code == 2


@pytest.mark.parametrize("name", ["a b", "a.b", "x" * 129])
def test_a_namespace_that_cannot_be_is_a_usage_error(name: str) -> None:
    result = offbook("runs", "--namespace", name, "--json")
    assert (result.exit_code, error_of(result)["code"]) == (2, "invalid-name")


def test_a_server_that_is_not_there_is_exit_code_4() -> None:
    result = offbook("runs", "--url", "nats://me:hush@127.0.0.1:1", "--json")
    assert (result.exit_code, error_of(result)["code"]) == (4, "server-unavailable")
    assert "hush" not in result.stderr


def test_an_error_names_its_page() -> None:
    assert "offbook explain invalid-name" in offbook("runs", "--namespace", "a.b").stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_for_the_shell(shell: str) -> None:
    result = offbook("completion", shell)
    assert result.exit_code == 0
    assert "_OFFBOOK_COMPLETE" in result.stdout


def test_a_server_that_does_not_run_is_told(tmp_path: Path) -> None:
    result = offbook("server", "status", "--folder", str(tmp_path / "none"), "--json")
    assert result.exit_code == 4
    assert json.loads(result.stdout)["ready"] is False


def test_check_finds_mistakes_without_running_the_module(example: Path) -> None:
    (example / "cli_bad_example.py").write_text(
        "import time\nfrom offbook import workflow\nopen('ran', 'w').close()\n\n\n"
        "@workflow\nasync def w() -> None:\n    time.sleep(1)\n"
    )
    result = offbook("check", "cli_bad_example", "--json")
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.exit_code == 1
    assert [(f["line"], f["level"]) for f in found] == [(8, "error")]
    assert not (example / "ran").exists()
    assert "cli_bad_example.py:8" in offbook("check", "cli_bad_example.py").stdout


def test_check_passes_what_is_right(example: Path) -> None:
    result = offbook("check", str(example / f"{MODULE}.py"))
    assert (result.exit_code, result.stdout) == (0, "nothing found\n")


def test_check_of_nothing_is_a_usage_error(example: Path) -> None:
    (example / "cli_syntax_example.py").write_text("def\n")
    assert offbook("check", "cli_absent_example").exit_code == 2
    assert offbook("check", "cli_syntax_example.py").exit_code == 1
