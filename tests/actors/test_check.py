"""Every rule of the checker: what it must find, and what it must leave alone."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

from offbook.actors.check import CODES, Finding, check_module, check_path, check_source

HEAD = """\
import asyncio, contextlib, hashlib, io, os, random, subprocess, sys, threading, time, uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
import datetime as dt
import httpx, requests
import numpy as np
import offbook
from offbook import sleep, step, workflow

@step
async def charge(x: int) -> int:
    return int(Path("rate").read_text()) + os.getpid()

@step
def mail(to: str) -> None:
    time.sleep(1)

"""


def codes(text: str) -> list[str]:
    return [finding.code for finding in check_source(HEAD + text)]


def body(text: str, parameters: str = "") -> str:
    lines = "\n".join(f"    {line}" for line in text.splitlines())
    return f"@workflow\nasync def flow({parameters}) -> None:\n{lines}\n"


FOUND: dict[str, tuple[str, str, str]] = {
    "open": ("OB101", "with open('x') as file: file.read()", ""),
    "input": ("OB101", "name = input()", ""),
    "stdin": ("OB101", "sys.stdin.readline()", ""),
    "requests": ("OB101", "requests.get('http://localhost')", ""),
    "httpx client": ("OB101", "async with httpx.AsyncClient() as c:\n    pass", ""),
    "client given": ("OB101", "await client.get('/')", "client: httpx.AsyncClient"),
    "subprocess": ("OB101", "subprocess.run(['true'])", ""),
    "os.remove": ("OB101", "os.remove('x')", ""),
    "import inside": ("OB101", "import shutil as s\ns.copy('a', 'b')", ""),
    "Path write": ("OB101", "(Path('a') / 'b').write_text('x')", ""),
    "Path parent": ("OB101", "p = Path('a')\np.parent.mkdir()", ""),
    "Path given": ("OB101", "p.read_bytes()", "p: Path | None"),
    "Path note": ("OB101", "p.read_bytes()", "p: 'Path'"),
    "in a lambda": ("OB101", "f = lambda: open('x')", ""),
    "in a nested function": ("OB101", "def read():\n    return open('x')\nread()", ""),
    "time.sleep": ("OB102", "time.sleep(1)", ""),
    "event wait": ("OB102", "done = threading.Event()\ndone.wait()", ""),
    "environ get": ("OB103", "os.environ.get('X')", ""),
    "environ item": ("OB103", "x = os.environ['X']", ""),
    "environ in": ("OB103", "x = 'X' in os.environ", ""),
    "environ by name": ("OB103", "from os import environ\nx = environ['X']", ""),
    "getenv": ("OB103", "os.getenv('X')", ""),
    "getpid": ("OB103", "os.getpid()", ""),
    "exists": ("OB103", "os.path.exists('x')", ""),
    "Path exists": ("OB103", "Path('x').exists()", ""),
    "home": ("OB103", "Path.home()", ""),
    "argv": ("OB103", "x = sys.argv[1]", ""),
    "thread": ("OB104", "threading.Thread(target=print).start()", ""),
    "to_thread": ("OB104", "await asyncio.to_thread(print)", ""),
    "pool": ("OB104", "with ThreadPoolExecutor() as pool: pass", ""),
    "executor": ("OB104", "await loop.run_in_executor(None, print)", "loop"),
    "run": ("OB105", "asyncio.run(charge(1))", ""),
    "connection": ("OB105", "r, w = await asyncio.open_connection('localhost', 1)", ""),
    "loop run": ("OB105", "asyncio.get_event_loop().run_until_complete(charge(1))", ""),
    "loop kept": ("OB105", "l = asyncio.get_running_loop()\nl.run_forever()", ""),
    "aio subprocess": ("OB105", "await asyncio.create_subprocess_exec('true')", ""),
    "task": ("OB106", "t = asyncio.Task(charge(1))", ""),
    "task factory": ("OB106", "asyncio.get_running_loop().set_task_factory(None)", ""),
    "set parameter": ("OB201", "for n in names: await charge(n)", "names: set[str]"),
    "set literal": ("OB201", "for n in {'a', 'b'}: await charge(n)", ""),
    "set variable": ("OB201", "s = set(xs)\nr = [await charge(x) for x in s]", "xs: list[str]"),
    "set grown": ("OB201", "s = set()\ns.add(x)\nfor n in s: await charge(n)", "x: str"),
    "set to list": ("OB201", "xs = list({x.name for x in ys})", "ys"),
    "set union": ("OB201", "for x in a | {'b', 'c'}: await charge(x)", "a"),
    "keys difference": ("OB201", "for x in a.keys() - b: await charge(x)", "a, b"),
    "set pop": ("OB201", "x = names.pop()", "names: set[str]"),
    "set spread": ("OB201", "await asyncio.gather(*(charge(n) for n in s))", "s: set[str]"),
    "set starred": ("OB201", "print(*s)", "s: frozenset[str]"),
    "set joined": ("OB201", "x = ','.join(s)", "s: set[str]"),
    "set joined lazily": ("OB201", "x = ','.join(n.name for n in s)", "s: set"),
    "next of set": ("OB201", "x = next(iter(s))", "s: set[str]"),
    "hash": ("OB202", "x = hash(name)", "name: str"),
    "id": ("OB202", "x = id(name)", "name: str"),
    "numpy": ("OB204", "x = np.random.rand()", ""),
    "getrandom": ("OB204", "x = os.getrandom(8)", ""),
    "step lost": ("OB301", "charge(1)", ""),
    "sync step lost": ("OB301", "mail('a')", ""),
    "sleep lost": ("OB301", "sleep(5)", ""),
    "asyncio.sleep lost": ("OB301", "asyncio.sleep(5)", ""),
    "naive date": ("OB302", "await sleep(datetime(2030, 1, 1))", ""),
    "naive module": ("OB302", "await offbook.sleep(dt.datetime(2030, 1, 1))", ""),
    "naive now": ("OB302", "await sleep(datetime.now() + timedelta(days=1))", ""),
    "naive utcnow": ("OB302", "await sleep(datetime.utcnow())", ""),
    "naive variable": ("OB302", "d = datetime(2030, 1, 1)\nawait sleep(d)", ""),
    "bare except": ("OB303", "try:\n    await charge(1)\nexcept:\n    pass", ""),
    "base": ("OB303", "try:\n    await charge(1)\nexcept BaseException:\n    pass", ""),
    "in a tuple": (
        "OB303",
        "try:\n    await charge(1)\nexcept (ValueError, asyncio.CancelledError):\n    pass",
        "",
    ),
    "suppress": ("OB303", "with contextlib.suppress(asyncio.CancelledError):\n    pass", ""),
    "finally": ("OB303", "try:\n    await charge(1)\nfinally:\n    return", ""),
    "endless": ("OB304", "while True:\n    x = 1", ""),
    "busy": ("OB304", "while not done.is_set(): pass", "done: asyncio.Event"),
}


@pytest.mark.parametrize("name", FOUND)
def test_a_mistake_in_a_body_is_found(name: str) -> None:
    code, text, parameters = FOUND[name]
    assert code in codes(body(text, parameters) + "")


CLEAN: dict[str, tuple[str, str]] = {
    "await": ("await charge(1)", ""),
    "task kept": ("t = asyncio.create_task(charge(1))\nawait t", ""),
    "gather": ("await asyncio.gather(charge(1), charge(2))", ""),
    "clock": ("a = time.time(); b = datetime.now(UTC); c = date.today()", ""),
    "random": ("a = random.random(); b = uuid.uuid4(); c = os.urandom(8)", ""),
    "print": ("print('hello')", ""),
    "memory file": ("file = io.StringIO()\nfile.write('x')", ""),
    "shadowed name": ("open(1)", "open"),
    "local name": ("requests = [1]\nrequests.append(2)", ""),
    "a dict called os": ("os = {'environ': 1}\nx = os['environ']", ""),
    "get of a dict": ("x = options.get('a')", "options: dict[str, str]"),
    "pure path": ("p = Path('a') / 'b'\nq = p.parent.with_suffix('.x').name", ""),
    "path text": ("x = os.path.join('a', 'b')", ""),
    "an error of a library": ("raise httpx.HTTPError('x')", ""),
    "a value of a library": ("t = httpx.Timeout(5)\nu = httpx.URL('http://localhost')", ""),
    "sorted": ("for n in sorted(names): await charge(n)", "names: set[str]"),
    "sorted lazily": ("x = sorted(n.key for n in names)", "names: set[str]"),
    "sorted list": ("x = sorted([n.key for n in names])", "names: set[str]"),
    "counted": ("x = len(names); y = max(names); z = 'a' in names", "names: set[str]"),
    "any": ("x = any(n.ok for n in names)", "names: set[str]"),
    "set to set": ("x = {n.upper() for n in names}", "names: set[str]"),
    "numbers": ("for n in {1, 2, 3}: await charge(n)", ""),
    "numbers given": ("for n in names: await charge(n)", "names: set[int]"),
    "tasks": ("ts = {asyncio.create_task(charge(i)) for i in (1, 2)}\nfor t in ts: await t", ""),
    "tasks grown": (
        "ts = set()\nt = asyncio.create_task(charge(1))\nts.add(t)\nfor u in ts: await u",
        "",
    ),
    "waited": ("done, rest = await asyncio.wait(ts)\nfor t in done: t.result()", "ts"),
    "list pop": ("x = xs.pop()", "xs: list[str]"),
    "dict": ("for k in d: await charge(k)", "d: dict[str, int]"),
    "list": ("for k in xs: await charge(k)", "xs: list[str]"),
    "list or": ("for k in a | b: await charge(k)", "a, b"),
    "hash of a number": ("x = hash(5)", ""),
    "hashlib": ("x = hashlib.sha256(b'x').hexdigest()", ""),
    "aware": ("await sleep(datetime(2030, 1, 1, tzinfo=UTC))", ""),
    "aware now": ("await sleep(datetime.now(UTC) + timedelta(days=1))", ""),
    "aware by keyword": ("await sleep(datetime.now(tz=UTC))", ""),
    "difference": ("await sleep(datetime(2030, 1, 1) - datetime(2029, 1, 1))", ""),
    "seconds": ("await sleep(5)\nawait asyncio.sleep(timedelta(days=1).total_seconds())", ""),
    "reraised": (
        "try:\n    await charge(1)\nexcept BaseException:\n    await charge(2)\n    raise",
        "",
    ),
    "exception": ("try:\n    await charge(1)\nexcept Exception:\n    pass", ""),
    "cancelled task": (
        (
            "t = asyncio.create_task(charge(1))\nt.cancel()\n"
            "try:\n    await t\nexcept asyncio.CancelledError:\n    pass"
        ),
        "",
    ),
    "waiting loop": ("while True:\n    await sleep(5)", ""),
    "waiting loop, async for": ("while True:\n    async for x in xs: pass", "xs"),
    "ending loop": ("while True:\n    if x: break", "x"),
    "counting loop": ("while n:\n    n -= 1", "n: int"),
    "own list": ("xs = []\nxs.append(1)", ""),
    "nonlocal": ("n = 0\ndef add():\n    nonlocal n\n    n += 1\nadd()", ""),
    "a step in the body": ("@step\ndef read() -> str:\n    return open('x').read()", ""),
    "run in a step's name": ("x = charge.run_in_thread()", ""),
}


@pytest.mark.parametrize("name", CLEAN)
def test_what_is_right_in_a_body_is_left_alone(name: str) -> None:
    text, parameters = CLEAN[name]
    found = [code for code in codes(body(text, parameters)) if code != "OB501"]
    assert found == []


MODULES: dict[str, tuple[list[str], str]] = {
    "a workflow with arguments": (
        ["OB101"],
        "@workflow(name='x')\nasync def f() -> None:\n    open('x')\n",
    ),
    "a workflow by module": (
        ["OB101"],
        "@offbook.workflow\nasync def f() -> None:\n    open('x')\n",
    ),
    "a workflow in a class": (
        ["OB101"],
        (
            "class C:\n    @workflow\n    async def f(self) -> None:\n        self.g()\n"
            "    def g(self): open('x')\n"
        ),
    ),
    "another library's workflow": (
        [],
        (
            "from temporalio import workflow\n@workflow.defn\nclass C:\n"
            "    @workflow.run\n    async def f(self): open('x')\n"
        ),
    ),
    "a plain function": ([], "def f(): open('x')\n"),
    "a helper": (
        ["OB101"],
        f"def g(): h()\ndef h(): open('x')\n{body('g()')}",
    ),
    "a helper that calls itself": ([], f"def g(n): return g(n - 1)\n{body('g(1)')}"),
    "a helper that is lost": (
        ["OB301"],
        f"async def g(): ...\n{body('g()')}",
    ),
    "a class that is made": (
        ["OB103", "OB102"],
        "class C:\n    def __init__(self): self.pid = os.getpid()\n"
        "    def wait(self): time.sleep(1)\n" + body("c = C()\nc.wait()"),
    ),
    "an async helper with a client of the module": (
        ["OB101"],
        "client = httpx.AsyncClient()\nasync def g(): return await client.get('/')\n"
        + body("await g()"),
    ),
    "a global": (["OB401"], "n = 0\n" + body("global n\nn += 1")),
    "a global that is read": ([], "n = 0\n" + body("global n\nprint(n)")),
    "a shared dict": (["OB402"], "seen = {}\n" + body("seen['x'] = 1")),
    "a shared list": (["OB402"], "seen: list[int] = []\n" + body("seen.append(1)")),
    "a table": ([], "RATES = {'a': 1}\n" + body("print(RATES['a'])")),
    "a shadowed list": ([], "seen = []\n" + body("seen = []\nseen.append(1)")),
    "a setting of the module": (["OB403"], "KEY = os.environ['K']\n" + body("print(KEY)")),
    "a time of the module": (["OB403"], "START = time.time()\n" + body("print(START)")),
    "a setting that no body reads": ([], "KEY = os.environ['K']\n" + body("print(1)")),
    "a factory": (
        ["OB203"],
        "@dataclass\nclass C:\n    at: datetime = field(default_factory=datetime.now)\n"
        + body("print(1)"),
    ),
    "a time factory": (
        ["OB203"],
        "@dataclass\nclass C:\n    at: float = field(default_factory=time.time)\n"
        + body("print(1)"),
    ),
    "a lambda factory": (
        [],
        "@dataclass\nclass C:\n"
        "    at: datetime = field(default_factory=lambda: datetime.now(UTC))\n"
        "    id: uuid.UUID = field(default_factory=uuid.uuid4)\n" + body("print(1)"),
    ),
    "a default that is read once": (
        ["OB203"],
        "@workflow\nasync def f(at: float = time.time()) -> None: ...\n",
    ),
    "no annotation": (["OB501"], "@workflow\nasync def f(x): ...\n"),
    "a step without annotation": (["OB501"], "@step(retry=3)\nasync def f(x: int): ...\n"),
    "one name twice": (
        ["OB502"],
        "@step\nasync def f() -> None: ...\n@step\nasync def f() -> None: ...\n",
    ),
    "one given name twice": (
        ["OB502"],
        (
            "@step(name='a')\nasync def f() -> None: ...\n"
            "@step(name='a')\nasync def g() -> None: ...\n"
        ),
    ),
    "one name in two classes": (
        [],
        (
            "class A:\n    @step\n    async def f(self) -> None: ...\n"
            "class B:\n    @step\n    async def f(self) -> None: ...\n"
        ),
    ),
    "one name for a step and a workflow": (
        [],
        (
            "@step(name='a')\nasync def f() -> None: ...\n"
            "@workflow(name='a')\nasync def g() -> None: ...\n"
        ),
    ),
    "a lambda step": (["OB503"], "double = step(lambda x: 2 * x)\n"),
}


@pytest.mark.parametrize("name", MODULES)
def test_a_module_has_exactly_these_findings(name: str) -> None:
    expected, text = MODULES[name]
    assert sorted(codes(text)) == sorted(expected)


def test_every_code_is_found_by_some_example() -> None:
    shown = {code for code, _, _ in FOUND.values()}
    shown.update(code for expected, _ in MODULES.values() for code in expected)
    assert shown | {"OB001"} == set(CODES)  # that one is of files


def test_a_finding_says_where_what_and_the_way_out() -> None:
    text = "from offbook import workflow\n@workflow\nasync def pay() -> None:\n    open('x')\n"
    assert check_source(text, "app.py") == [
        Finding("app.py", 4, 5, "OB101", "open() in workflow pay", "move it into a @step")
    ]
    assert str(check_source(text, "app.py")[0]) == (
        "app.py:4:5: OB101 open() in workflow pay; move it into a @step"
    )
    assert check_source(text)[0].level == "error"


def test_a_finding_in_a_helper_names_the_workflow() -> None:
    found = check_source(HEAD + "def load(): open('x')\n" + body("load()"))
    assert [f.message for f in found] == ["open() in load, called by workflow flow"]


@pytest.mark.parametrize(
    ("comment", "left"),
    [
        ("# offbook: ignore", []),
        ("# offbook: ignore[OB101]", []),
        ("# offbook: ignore[OB103, OB101]  it is a pipe", []),
        ("# offbook: ignore[OB103]", ["OB101"]),
        ("# something else", ["OB101"]),
    ],
)
def test_a_comment_silences_its_line(comment: str, left: list[str]) -> None:
    assert codes(body(f"open('x')  {comment}")) == left
    assert codes(body(f"open(\n    'x',\n)  {comment}")) == left


def test_an_ignored_line_in_a_block_does_not_silence_the_block() -> None:
    text = "while True:\n    x = 1  # offbook: ignore"
    assert codes(body(text)) == ["OB304"]


def test_star_imports_and_late_imports_are_understood() -> None:
    text = (
        "from offbook import *\n@workflow\nasync def f() -> None:\n    import os\n    os.getpid()\n"
    )
    assert [f.code for f in check_source(text)] == ["OB103"]


def test_names_that_refer_to_each_other_do_not_hang() -> None:
    text = body("a = b | c\nb = a | c\nfor x in a: await charge(x)\nc = c.parent\nc.exists()")
    assert codes(text) == []


def test_text_that_is_not_python_raises() -> None:
    with pytest.raises(SyntaxError):
        check_source("def")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"x = 1\ndef (", 2),
        (b"x = 1\0", 1),
        (b"\xff\xfe\x00bad", 1),
        (b"x = " + b"+".join([b"1"] * 50_000), 1),
        (b"x = " + b"(" * 300 + b"1" + b")" * 300, 1),
    ],
    ids=["syntax", "nul", "bytes", "long", "deep"],
)
def test_a_file_that_is_no_python_hides_nothing_of_others(
    tmp_path: Path, text: bytes, line: int
) -> None:
    (tmp_path / "a.py").write_bytes(text)
    (tmp_path / "b.py").write_text(HEAD + body("open('x')"), encoding="utf-8")
    found = check_path(tmp_path)
    assert [(Path(f.file).name, f.code) for f in found] == [("a.py", "OB001"), ("b.py", "OB101")]
    assert found[0].line == line
    assert found[0].message


def test_a_folder_is_checked_without_what_is_not_the_users(tmp_path: Path) -> None:
    for name in (".tox", "env", "mine", "dir.py"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.py").write_text(HEAD + body("open('x')"), encoding="utf-8")
    (tmp_path / "env" / "pyvenv.cfg").touch()
    places = [Path(f.file).relative_to(tmp_path) for f in check_path(tmp_path)]
    assert sorted(map(str, places)) == ["dir.py/a.py", "mine/a.py"]


def test_a_folder_is_checked_file_by_file_without_running_it(tmp_path: Path) -> None:
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "a.py").write_text(HEAD + body("open('x')"), encoding="utf-8")
    (tmp_path / "b.py").write_text("raise SystemExit('it ran')", encoding="utf-8")
    found = check_path(tmp_path)
    assert [(f.file, f.code) for f in found] == [(str(tmp_path / "pkg" / "a.py"), "OB101")]
    assert check_path(str(tmp_path / "b.py")) == []


def test_an_imported_module_is_checked_by_its_source(tmp_path: Path) -> None:
    file = tmp_path / "flows_under_check.py"
    file.write_text("from offbook import workflow\n@workflow\nasync def f(x): ...\n", "utf-8")
    module = ModuleType("flows_under_check")
    module.__file__ = str(file)
    assert [f.code for f in check_module(module)] == ["OB501"]
    assert check_module(sys) == []
