"""What the pages say is so: their Python runs, their commands parse, their names exist."""

# ruff: noqa: ANN401 - a meter's arguments are passed on

import importlib
import inspect
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

import click
import pytest
from opentelemetry.metrics import NoOpMeter

import offbook
from offbook import agent as agents
from offbook import testing
from offbook.actors import errors
from offbook.actors.check import check_source
from offbook.actors.check.codes import CODES
from offbook.adapters import ai_sdk, cipher, langgraph, log, mcp, otel, pydantic_ai
from offbook.adapters.nats.options import ConnectOptions
from offbook.adapters.otel.meters import Meters
from offbook.agent import errors as agent
from offbook.agent import models
from offbook.ops.cli import cli
from offbook.ops.cli import failures as endings
from support.commands import Place, environment
from support.pages import ROOT, Block, Stage, blocks, inline_code, page_names, text_of

if not (ROOT / "docs" / "cli.md").exists():
    pytest.skip("no docs in this tree", allow_module_level=True)

PAGES = page_names()
PYTHON_PAGES = [page for page in PAGES if any(b.language == "python" for b in blocks(page))]
# They set up the logging and the telemetry of a whole process.
ALONE = {"docs/telemetry.md"}
PARTS = ("actors", "adapters", "ops", "src/offbook", "agent")


# Python


def run_page(page: str) -> None:
    with Stage(page) as stage:
        for block in blocks(page):
            if block.language == "python":
                stage.run(block)


@pytest.mark.parametrize("page", [page for page in PYTHON_PAGES if page not in ALONE])
def test_the_python_of_a_page_runs(page: str) -> None:
    run_page(page)
    assert f"page_{page}" not in sys.modules


@pytest.mark.parametrize("page", sorted(ALONE))
def test_the_python_of_a_page_runs_in_a_process_of_its_own(page: str) -> None:
    code = (
        f"import sys; sys.path.insert(0, 'tests'); import test_docs; test_docs.run_page({page!r})"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        env=environment() | {"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none"},
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_every_page_for_python_programmers_has_python() -> None:
    silent = {
        "scale",
        "ARCHITECTURE",
        "benchmarks",
        "cli",
        "glossary",
        "operations",
        "reliability",
        "simulation",
    }
    guides = {page for page in PAGES if page.startswith("docs/") and page.count("/") == 1}
    spoken = {page for page in guides if page not in PYTHON_PAGES}
    assert {Path(page).stem for page in spoken} <= silent


@pytest.mark.parametrize("page", PAGES)
def test_no_block_of_a_page_is_of_unknown_kind(page: str) -> None:
    kinds = {block.language for block in blocks(page)}
    assert kinds <= {"python", "sh", "text", "promql", "json", ""}


@pytest.mark.parametrize("page", PYTHON_PAGES)
def test_the_linter_finds_nothing_in_the_bodies_that_a_page_shows(page: str) -> None:
    text = "\n".join(block.text for block in blocks(page) if block.language == "python")
    mistakes = [f for f in check_source(_awaiting(text), page) if f.level == "error"]
    assert not mistakes, "\n".join(map(str, mistakes))


def _awaiting(text: str) -> str:
    """Make the top level a function where it awaits, so that it is Python for everyone."""
    lines = text.splitlines()
    names = re.findall(r"^(?:await |async with |async for |.* = await )", text, re.MULTILINE)
    return text if not names else "\n".join(["async def page():", *(f"    {x}" for x in lines)])


def test_the_first_page_works_as_it_is_written(tmp_path: Path) -> None:
    page = blocks("docs/getting-started.md")
    script = next(block for block in page if "asyncio.run(main())" in block.text)
    (tmp_path / "hello.py").write_text(script.text)
    done = subprocess.run(
        [sys.executable, "hello.py"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
        timeout=50,
    )
    assert done.stdout.startswith("run_")
    assert done.stdout.rstrip().endswith("HELLO, ADA")
    place = Place(tmp_path)
    with place.background("--json", "worker", "hello") as worker:
        worker.until(ready=True)
        commands = {line[1]: line for block in page for line in command_lines(block)}
        started = place(*commands["start"][1:])
        assert place("result", started.out.strip()).out.strip() == "HELLO, ADA"
        listed = place(*commands["runs"][1:])
        assert listed.out.count("hello.welcome") == 2, listed.out
        assert worker.stop() == 0


@pytest.mark.timeout(180)
def test_the_quick_start_of_the_readme_works_as_it_is_written(tmp_path: Path) -> None:
    page = blocks("README.md")
    script = next(block for block in page if "asyncio.run(main())" in block.text)
    (tmp_path / "shop.py").write_text(script.text)
    place = Place(tmp_path)
    commands = {line[1]: line[1:] for block in page for line in command_lines(block)}
    with place.background("--json", *commands["worker"][:2]) as worker:
        worker.until(ready=True)
        call = [sys.executable, "shop.py"]
        subprocess.run(call, cwd=tmp_path, env=environment(), check=True, timeout=50)
        with place.background("events", "order-42", "--follow", "--json") as events:
            events.until(type="timer_started")
            assert "timer" in place.inside(*commands["show"]).out
            assert place.inside(*commands["wake"]).out == "1 woken\n"
            events.until(type="hook_opened")
            assert place.inside(*commands["resume"]).out == "order-42\n"
            events.until(type="run_completed")
        assert place.inside(*commands["result"]).out == "receipt for 42\n"
        assert worker.stop() == 0


# Command lines


def command_lines(block: Block) -> Iterator[list[str]]:
    """Yield the words of each line of a block that calls `offbook`."""
    if block.language != "sh":
        return
    for line in block.text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if set(word) <= set("();|&<>"):
                if "offbook" in words[:1]:
                    yield words
                words = []
            else:
                words.append(word)


def parse(words: list[str]) -> list[str]:
    """Parse a command line as the command would, without running it; return the commands' names."""
    command: click.Command = cli
    context = command.make_context("offbook", words[1:])
    path = ["offbook"]
    while isinstance(command, click.Group):
        rest = [*context._protected_args, *context.args]  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - where a group leaves what is its command's
        name, found, rest = command.resolve_command(context, rest)
        assert name is not None
        assert found is not None
        path.append(name)
        command, context = found, found.make_context(name, rest, parent=context)
    return path


def all_commands() -> dict[str, click.Command]:
    found: dict[str, click.Command] = {}
    waiting: list[tuple[str, click.Command]] = [("offbook", cli)]
    while waiting:
        path, command = waiting.pop()
        found[path] = command
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                inner = command.get_command(context, name)
                assert inner is not None
                waiting.append((f"{path} {name}", inner))
    return found


SHOWN = [
    pytest.param(words, id=f"{page}-{' '.join(words)}")
    for page in PAGES
    for block in blocks(page)
    for words in command_lines(block)
]


@pytest.mark.parametrize("words", SHOWN)
def test_a_command_line_that_is_shown_parses(words: list[str]) -> None:
    assert parse(words)[0] == "offbook"


@pytest.mark.parametrize("page", PAGES)
def test_a_command_named_in_a_sentence_exists(page: str) -> None:
    known = all_commands()
    for code in inline_code(page):
        if not code.startswith("offbook "):
            continue
        words = [re.sub(r"<(\w+)>|[A-Z]+|…", "x", word) for word in shlex.split(code)]
        path = words[0]
        for word in words[1:]:
            if word.startswith("--"):
                flags = {flag for p in known[path].params for flag in p.opts + p.secondary_opts}
                assert word.partition("=")[0] in flags, f"{page}: `{code}`"
            elif isinstance(known[path], click.Group):
                path = f"{path} {word}"
                assert path in known, f"{page}: `{code}`"


def test_the_page_of_the_command_line_shows_every_command_in_use() -> None:
    shown = {" ".join(parse(words)) for b in blocks("docs/cli.md") for words in command_lines(b)}
    leaves = {path for path, found in all_commands().items() if not isinstance(found, click.Group)}
    assert shown == leaves


def test_the_page_of_the_command_line_names_every_option() -> None:
    named = set(re.findall(r"--[a-z-]+", " ".join(inline_code("docs/cli.md"))))
    for path, command in all_commands().items():
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                assert any(flag in named for flag in parameter.opts), f"{path} {parameter.opts}"


def test_the_page_of_the_command_line_names_every_exit_code() -> None:
    table = dict(re.findall(r"^\| (\d+) \| (.*) \|$", text_of("docs/cli.md"), re.MULTILINE))
    codes = (endings.OK, endings.FOUND, endings.USAGE, endings.ABSENT, endings.SERVER)
    assert set(map(int, table)) == {*codes, endings.TIMEOUT, endings.INTERRUPTED}


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):.*## ", text_of("Makefile"), re.MULTILINE))


@pytest.mark.parametrize("page", PAGES)
def test_a_make_target_that_is_shown_exists(page: str) -> None:
    lines = [
        line for block in blocks(page) if block.language == "sh" for line in block.text.splitlines()
    ]
    for line in [*lines, *inline_code(page)]:
        for call in re.findall(r"(?:^|&& )make ((?:[a-z-]+ ?)+)", line):
            assert set(call.split()) <= make_targets(), f"{page}: {line}"


# Links


def anchors(page: str) -> set[str]:
    """Return the anchors that the headings of a page make."""
    headings = re.findall(r"^#+ (.*)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in headings}


@pytest.mark.parametrize("page", PAGES)
def test_a_link_into_a_page_meets_a_heading(page: str) -> None:
    for target, anchor in re.findall(r"\]\(([^)#\s:]*)#([^)]+)\)", text_of(page)):
        there = (ROOT / page).parent / target if target else ROOT / page
        name = there.resolve().relative_to(ROOT).as_posix()
        assert anchor in anchors(name), f"{page}: {target}#{anchor}"


def test_every_guide_is_linked_from_the_readme() -> None:
    text = text_of("README.md")
    guides = {page for page in PAGES if page.startswith("docs/") and page.count("/") == 1}
    assert {page for page in guides if f"({page})" not in text} == set()


# Names


@cache
def sources() -> str:
    files = [file for part in PARTS for file in (ROOT / part).rglob("*.py")]
    return "\n".join(file.read_text("utf-8") for file in sorted(set(files)))


@cache
def parameters() -> frozenset[str]:
    """Return the names of all parameters and fields of what users may call."""
    found: set[str] = set()
    edges = (otel, log, ai_sdk, cipher, mcp, pydantic_ai, langgraph)
    for module in (offbook, testing, agents, models, *edges):
        for name in getattr(module, "__all__", dir(module)):
            found |= _parameters_of(getattr(module, name))
    return frozenset(found)


def _parameters_of(thing: object) -> set[str]:
    found: set[str] = set()
    if is_dataclass(thing):
        found |= {field.name for field in fields(thing)}
    if not callable(thing):
        return found
    callables = [thing]
    if inspect.isclass(thing):
        callables += [member for _, member in inspect.getmembers(thing, callable)]
    for function in callables:
        try:
            found |= set(inspect.signature(function).parameters)
        except (TypeError, ValueError):
            continue
    return found


_OF_OTHERS = re.compile(
    r"\b(?:timedelta|datetime|make \w+|lambda)\b.*|\bdefault_factory=.*|^\w+: .*"
)
"""Calls and texts that are not offbook's."""


@pytest.mark.parametrize("page", PAGES)
def test_a_parameter_that_is_named_exists(page: str) -> None:
    for code in inline_code(page):
        for name in re.findall(r"(?:^|[(, ])([a-z_]+)=(?!=)", _OF_OTHERS.sub("", code)):
            assert name in parameters(), f"{page}: `{code}`"


@pytest.mark.parametrize("page", PAGES)
def test_an_option_in_the_first_column_of_a_table_exists(page: str) -> None:
    for heading, names in re.findall(
        r"^\| (setting|option|argument) \|.*\n\|[-| ]+\n((?:\|.*\n)+)", text_of(page), re.MULTILINE
    ):
        for name in re.findall(r"^\| `([a-z_]+)=?`", names, re.MULTILINE):
            assert name in parameters(), f"{page}: {heading} {name}"


@pytest.mark.parametrize("page", PAGES)
def test_a_variable_of_the_environment_that_is_named_is_read(page: str) -> None:
    for name in set(re.findall(r"\bOFFBOOK_[A-Z_]+\b", text_of(page))):
        assert f'"{name}"' in sources(), f"{page}: {name}"


@pytest.mark.parametrize("page", PAGES)
def test_a_name_of_offbook_exists(page: str) -> None:
    for code in inline_code(page):
        for name in re.findall(r"^(offbook(?:\.\w+)+)", code):
            known = _resolves(name) or name in metrics() or f'"{name}"' in sources()
            assert known, f"{page}: `{code}`"


@cache
def metrics() -> frozenset[str]:
    """Return the names of the metrics that a meter is asked for."""
    asked: list[str] = []

    class Noted(NoOpMeter):
        def create_counter(self, name: str, *args: Any, **options: Any) -> Any:
            asked.append(name)
            return super().create_counter(name, *args, **options)

        def create_histogram(self, name: str, *args: Any, **options: Any) -> Any:
            asked.append(name)
            return super().create_histogram(name, *args, **options)

    Meters(Noted("test"))
    return frozenset(asked)


def _resolves(name: str) -> bool:
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:count]))
        except ImportError:
            continue
        for part in parts[count:]:
            found = getattr(found, part, None)
        return found is not None
    return False


@pytest.mark.parametrize("page", PAGES)
def test_a_class_that_is_named_exists(page: str) -> None:
    for code in inline_code(page):
        for name in re.findall(r"^[A-Z][a-z]+(?:[A-Z][a-z]+)+(?=$|\()", code):
            assert re.search(rf"\b{name}\b", sources()), f"{page}: `{code}`"


@pytest.mark.parametrize("page", PAGES)
def test_a_method_that_is_called_in_a_sentence_exists(page: str) -> None:
    owners: dict[str, object] = {
        "client": offbook.Client,
        "run": offbook.Run,
        "worker": offbook.Worker,
        "env": testing.Environment,
        "scope": offbook.CancelScope(),
    }
    for code in inline_code(page):
        for owner, name in re.findall(r"^(\w+)\.(\w+)(?=$|\()", code):
            if owner in owners:
                assert hasattr(owners[owner], name), f"{page}: `{code}`"
        for name in re.findall(r"^current_step\(\)\.(\w+)", code):
            assert name in {f.name for f in fields(offbook.StepContext)} or hasattr(
                offbook.StepContext, name
            ), f"{page}: `{code}`"


def test_the_settings_are_all_explained() -> None:
    named = set(re.findall(r"^\| `(\w+)` \|", text_of("docs/operations.md"), re.MULTILINE))
    wanted = {field.name for field in fields(offbook.Settings)}
    assert wanted <= named, f"docs/operations.md lacks {wanted - named}"


def test_the_ways_to_log_in_are_all_explained() -> None:
    page = text_of("docs/operations.md")
    variables = set(re.findall(r'read\("(OFFBOOK_\w+)"\)', text_of("src/offbook/_connect.py")))
    assert variables
    assert all(name in page for name in variables)
    assert {field.name for field in fields(ConnectOptions)} <= set(
        inline_code("docs/operations.md")
    )


def test_the_codes_of_the_linter_are_all_explained() -> None:
    rows = re.findall(r"^\| `(OB\d+)` \| (\w+) \|", text_of("docs/determinism.md"), re.MULTILINE)
    assert dict(rows) == {code.code: code.level for code in CODES.values()}


def test_the_metrics_are_all_explained_and_no_others() -> None:
    page = re.findall(
        r"^\| `((?:offbook|gen_ai)\.[a-z_.]+)` \|", text_of("docs/telemetry.md"), re.MULTILINE
    )
    assert sorted(page) == sorted(metrics())


def test_the_names_of_the_face_are_all_on_some_page() -> None:
    pages = "\n".join(text_of(page) for page in PAGES)
    missing = [name for name in offbook.__all__ if not re.search(rf"\b{name}\b", pages)]
    assert not missing, f"no page tells of {', '.join(missing)}"


# The errors


@pytest.mark.parametrize("name", sorted(offbook.__all__))
def test_an_error_of_the_face_has_a_page_that_says_what_it_is(name: str) -> None:
    cls = getattr(offbook, name)
    if not (inspect.isclass(cls) and issubclass(cls, errors.OffbookError)):
        return
    page = text_of(f"docs/errors/{cls.code}.md")
    parent = cls.__mro__[1].__name__
    assert f"Code `{cls.code}`" in page
    assert cls is errors.OffbookError or f"a kind of `{parent}`" in page, parent


NUMBERS: set[object] = {int, float, int | None, float | None}


def _fragments(cls: type[Any], *, whole: bool) -> list[str]:
    """Return the fixed parts of an error's text, with or without what it says at times."""
    given: dict[str, Any] = {f.name: 7 if f.type in NUMBERS else "§" for f in fields(cls)}
    if not whole:
        given |= {f.name: f.default for f in fields(cls) if f.default == ""}
    if "cause" in given and cls is errors.RunFailed:
        given["cause"] = None
    parts = re.split(r"'?§'?|\b7\b|got str", str(cls(**given)))
    return [" ".join(part.split()) for part in parts if len(part) > 3]


@pytest.mark.parametrize(
    "cls",
    [
        c
        for part in (errors, agent)
        for c in vars(part).values()
        if inspect.isclass(c) and is_dataclass(c)
    ],
    ids=lambda cls: cls.__name__,
)
def test_the_example_of_an_error_has_the_text_that_the_error_has(cls: type[Any]) -> None:
    page = f"docs/errors/{cls.code}.md"
    example = " ".join(" ".join(b.text for b in blocks(page)).split())
    lacking = [
        [part for part in _fragments(cls, whole=whole) if part not in example]
        for whole in (True, False)
    ]
    assert [] in lacking, f"{page} lacks {lacking}"


# The map of the code


def code_map() -> dict[str, set[str]]:
    """Return the modules that the code map names, by part or adapter."""
    found: dict[str, set[str]] = {}
    text = text_of("docs/ARCHITECTURE.md").partition("## Code map")[2].partition("\n## ")[0]
    for row in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE):
        folder = ""
        for name in re.findall(r"`([\w/]+)`", row):
            head, slash, tail = name.rpartition("/")
            folder = head if slash else folder
            found.setdefault(folder, set()).add(tail)
    return found


def modules_in(folder: str) -> set[str]:
    """Return the modules and packages of a folder."""
    entries = [path for path in (ROOT / folder).iterdir() if path.name[0] not in "_."]
    packages = {path.name for path in entries if path.is_dir() and list(path.glob("*.py"))}
    return packages | {path.stem for path in entries if path.suffix == ".py"}


@pytest.mark.parametrize("folder", ["actors", "adapters"])
def test_the_code_map_names_what_there_is_and_all_of_it(folder: str) -> None:
    named, there = code_map()[folder], modules_in(folder)
    assert named - there == set(), "named, but not there"
    assert there - named == set(), "there, but not named"


# Planted faults


@pytest.mark.parametrize(
    "text",
    [
        "raise ValueError",
        "import offbook.nowhere",
        "import offbook\noffbook.connect(colour=1)\n",
        "import offbook\nasync with offbook.connect() as client:\n    assert not client.is_open\n",
        "async def main() -> None:\n    assert False\n",
        "def test_it() -> None:\n    assert False\n",
    ],
)
def test_a_block_that_does_not_work_fails(text: str) -> None:
    [block] = blocks("a.md", f"Words.\n\n```python\n{text}\n```\n")
    failures = (ValueError, ImportError, TypeError, AssertionError)
    with Stage("a.md") as stage, pytest.raises(failures):
        stage.run(block)


def test_a_hidden_block_runs_in_its_place_and_names_its_line() -> None:
    page = "x\n```python\nn = 1\n```\n<!-- test\nn += 1\n-->\n```python\nn *= 3\nassert n == 7\n```"
    first, hidden, last = blocks("b.md", page)
    assert [first.line, hidden.line, last.line] == [3, 6, 9]
    with Stage("b.md") as stage:
        stage.run(first)
        stage.run(hidden)
        with pytest.raises(AssertionError) as caught:
            stage.run(last)
        assert vars(stage.module)["n"] == 6
    assert caught.tb.tb_next is not None
    assert caught.traceback[-1].lineno + 1 == 10


@pytest.mark.parametrize(
    "line",
    [
        "offbook nowhere",
        "offbook runs --colour",
        "offbook start",
        "offbook namespace init --replicas many",
        "make setup && offbook show",
    ],
)
def test_a_command_line_that_is_wrong_does_not_parse(line: str) -> None:
    [words] = command_lines(Block("a.md", 1, "sh", line))
    with pytest.raises(click.UsageError):
        parse(words)
