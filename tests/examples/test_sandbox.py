"""The sandbox of the coding agent: its limits hold, and nothing leads out of it."""

import asyncio
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from local_sandbox import Limits, LocalSandboxes
from sandbox import Ended, Output, SandboxError

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "coding_agent"
NAME = "chat_1"
SMALL = Limits(seconds=20, memory=128 * 1024 * 1024, processes=16, output=2_000)


@pytest.fixture
def folder() -> Generator[Path]:
    """A folder that the users of sandboxes may pass through, which `tmp_path` is not."""
    with tempfile.TemporaryDirectory(prefix="offbook-sandbox-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


@pytest.fixture
def sandboxes(folder: Path) -> LocalSandboxes:
    made = LocalSandboxes(folder / "sandboxes", SMALL)
    asyncio.run(made.create(NAME))
    return made


async def finished(sandboxes: LocalSandboxes, command: str) -> tuple[str, Ended]:
    """Run a command to its end; return what it printed, and how it ended."""
    printed: list[str] = []
    async with aclosing(sandboxes.run(NAME, command)) as events:
        async for event in events:
            if isinstance(event, Ended):
                return "".join(printed), event
            printed.append(event.text)
    raise AssertionError("there was no end")


def python(code: str) -> str:
    """Return the command line of a program."""
    return f"python3 - <<'END'\n{code}\nEND"


# Files


async def test_a_file_is_written_read_and_listed(sandboxes: LocalSandboxes) -> None:
    assert await sandboxes.write(NAME, "a/b/page.html", "<p>ü</p>") == 9
    assert await sandboxes.write(NAME, "a/b/page.html", "<b>") == 3
    assert await sandboxes.read(NAME, "a/b/page.html") == b"<b>"
    assert await sandboxes.files(NAME) == ["a/b/page.html"]
    assert (await finished(sandboxes, "cat a/b/page.html"))[0] == "<b>"
    printed, _ = await finished(sandboxes, "echo more >> a/b/page.html; mkdir own; echo 1 > own/x")
    assert printed == ""
    assert await sandboxes.read(NAME, "a/b/page.html") == b"<b>more\n"
    assert await sandboxes.files(NAME) == ["a/b/page.html", "own/x"]


async def test_a_sandbox_that_is_there_is_left_as_it_is(sandboxes: LocalSandboxes) -> None:
    await sandboxes.write(NAME, "x", "kept")
    await sandboxes.create(NAME)
    assert await sandboxes.read(NAME, "x") == b"kept"
    await sandboxes.remove(NAME)
    with pytest.raises(SandboxError, match="no sandbox yet"):
        await sandboxes.files(NAME)
    await sandboxes.remove(NAME)


@pytest.mark.parametrize("path", ["/etc/hosts", "../x", "a/../../x", "", ".", "a/", "a\0b"])
async def test_a_path_that_leads_out_is_refused(sandboxes: LocalSandboxes, path: str) -> None:
    with pytest.raises(SandboxError):
        await sandboxes.write(NAME, path, "out")
    with pytest.raises(SandboxError):
        await sandboxes.read(NAME, path)


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "a" * 129])
async def test_a_name_that_leads_out_is_refused(sandboxes: LocalSandboxes, name: str) -> None:
    with pytest.raises(SandboxError):
        await sandboxes.create(name)
    with pytest.raises(SandboxError):
        await sandboxes.read(name, "x")
    with pytest.raises(SandboxError):
        await sandboxes.remove(name)


async def test_links_are_not_followed(sandboxes: LocalSandboxes, folder: Path) -> None:
    (folder / "secret").write_text("outside")
    links = f"ln -s {folder}/secret file; ln -s {folder} dir; ln -s ../.. up; mkfifo pipe"
    await finished(sandboxes, links)
    for path in ("file", "dir/secret", "up/secret", "dir/new/x", "pipe"):
        with pytest.raises(SandboxError):
            await sandboxes.read(NAME, path)
        with pytest.raises(SandboxError):
            await sandboxes.write(NAME, path, "changed")
    assert (folder / "secret").read_text() == "outside"
    assert sorted(os.listdir(folder)) == ["sandboxes", "secret"]  # noqa: PTH208
    assert "dir/secret" not in await sandboxes.files(NAME)


async def test_a_sandbox_that_a_command_has_closed_is_opened_again(
    sandboxes: LocalSandboxes,
) -> None:
    await finished(sandboxes, "echo here > file; chmod 000 .")
    await sandboxes.create(NAME)
    assert await finished(sandboxes, "cat file; chmod 000 .") == ("here\n", Ended(0))
    await sandboxes.create(NAME)
    assert await sandboxes.read(NAME, "file") == b"here\n"


DEEP = "import os\nfor _ in range(1050): os.mkdir('d'); os.chdir('d')\nopen('file', 'w').close()"


async def test_folders_that_are_nested_deeply_are_listed_in_part_and_removed(
    sandboxes: LocalSandboxes, folder: Path
) -> None:
    assert (await finished(sandboxes, python(DEEP)))[1] == Ended(0)
    await sandboxes.write(NAME, "file", "here")
    assert await sandboxes.files(NAME) == ["file"]
    await sandboxes.remove(NAME)
    assert not (folder / "sandboxes" / NAME).exists()


# Commands


async def test_a_command_tells_its_code_and_prints_as_it_goes(sandboxes: LocalSandboxes) -> None:
    async with aclosing(sandboxes.run(NAME, "echo one; read x; echo two >&2; exit 3")) as events:
        heard = [event async for event in events]
    assert "".join(one.text for one in heard if isinstance(one, Output)) == "one\ntwo\n"
    assert heard[-1] == Ended(3)


async def test_a_command_finds_nothing_of_the_workers_environment(
    sandboxes: LocalSandboxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    printed, _ = await finished(sandboxes, "env; ls /proc/self/fd; cat /proc/$PPID/environ")
    assert "secret" not in printed
    names = {line.partition("=")[0] for line in printed.splitlines() if "=" in line}
    assert names - {"PWD", "OLDPWD", "SHLVL", "_"} == {
        "PATH", "HOME", "TMPDIR", "LANG", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED",
    }  # fmt: skip


async def test_time_is_limited_and_nothing_is_left(sandboxes: LocalSandboxes) -> None:
    hasty = replace(sandboxes, limits=replace(SMALL, seconds=0.5))
    command = "(setsid sleep 987654 &); sleep 987654 & echo begun; sleep 987654"
    printed, ended = await finished(hasty, command)
    assert printed == "begun\n"
    assert (ended.code, ended.reason) == (-9, "time")
    assert not sleepers("987654")


def sleepers(seconds: str) -> list[psutil.Process]:
    return [
        one for one in psutil.process_iter(["cmdline"]) if seconds in (one.info["cmdline"] or ())
    ]


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - it is about other processes
        await asyncio.sleep(0.02)


async def test_what_a_command_leaves_behind_ends_with_it(sandboxes: LocalSandboxes) -> None:
    _, ended = await finished(sandboxes, "(setsid sleep 876543 &) ; nohup sleep 876543 & exit 0")
    assert ended == Ended(0)
    assert not sleepers("876543")


@pytest.mark.skipif(sys.platform != "linux", reason="the limit holds on Linux")
async def test_memory_is_limited_for_one_process(sandboxes: LocalSandboxes) -> None:
    printed, ended = await finished(
        sandboxes, python("x = bytearray(300_000_000); print('had it')")
    )
    assert "had it" not in printed
    assert "MemoryError" in printed
    assert ended.code == 1


@pytest.mark.skipif(sys.platform != "linux", reason="the limit holds on Linux")
async def test_memory_is_limited_for_all_processes(sandboxes: LocalSandboxes) -> None:
    each = python("import time; x = bytearray(b'1') * 60_000_000; time.sleep(60)")
    _, ended = await finished(sandboxes, f"for i in 1 2 3; do ({each}\n) & done; wait")
    assert ended.reason == "memory"


@pytest.mark.skipif(sys.platform != "linux", reason="the limit holds on Linux")
async def test_memory_that_processes_share_is_limited_too(sandboxes: LocalSandboxes) -> None:
    shared = "import mmap, time; x = mmap.mmap(-1, 2 * 10**8)"
    filled = "for n in range(200): x[n * 10**6 : (n + 1) * 10**6] = bytes(10**6)"
    _, ended = await finished(sandboxes, python(f"{shared}\n{filled}\ntime.sleep(60)"))
    assert ended.reason == "memory"


@pytest.mark.skipif(sys.platform != "linux", reason="the limit holds on Linux")
async def test_a_fork_bomb_hits_the_limit(sandboxes: LocalSandboxes) -> None:
    bomb = """
import os, time
children = 0
try:
    while True:
        if os.fork() == 0:
            os.setsid()
            time.sleep(60)
        children += 1
except BlockingIOError:
    print("stopped after", children)
"""
    printed, ended = await finished(sandboxes, python(bomb))
    assert ended == Ended(0)
    assert 0 < int(printed.rpartition(" ")[2]) <= SMALL.processes


async def test_a_file_is_limited(sandboxes: LocalSandboxes) -> None:
    tight = replace(sandboxes, limits=replace(SMALL, file=10_000))
    await finished(tight, "head -c 1000000 /dev/zero > big")
    assert len(await tight.read(NAME, "big")) == 10_000
    with pytest.raises(SandboxError, match="too large"):
        await tight.write(NAME, "big", "x" * 10_001)


async def test_output_is_cut_and_the_command_goes_on(sandboxes: LocalSandboxes) -> None:
    printed, ended = await finished(sandboxes, "yes | head -c 1000000; echo > after")
    assert len(printed) == SMALL.output
    assert ended == Ended(0, "", 1_000_000 - SMALL.output)
    assert await sandboxes.files(NAME) == ["after"]


async def test_a_command_that_nobody_reads_any_more_ends(sandboxes: LocalSandboxes) -> None:
    async with aclosing(sandboxes.run(NAME, "echo begun; sleep 765432")) as events:
        assert await anext(events) == Output("begun\n")
        await until(lambda: bool(sleepers("765432")))
    assert not sleepers("765432")


async def test_a_command_that_cannot_be_is_refused(sandboxes: LocalSandboxes) -> None:
    with pytest.raises(SandboxError, match="too long"):
        await finished(sandboxes, "x" * 100_000)
    printed, ended = await finished(sandboxes, "echo a\0b")
    assert "could not be started" in printed
    assert ended == Ended(126)


PLAYER = """
import asyncio, sys
from pathlib import Path
from local_sandbox import Limits, LocalSandboxes

async def main(folder, command):
    sandboxes = LocalSandboxes(Path(folder), Limits(processes=16))
    await sandboxes.create("own")
    await sandboxes.write("own", "a/b", "there")
    async for event in sandboxes.run("own", command):
        print(event, flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_command_ends_when_its_worker_dies(folder: Path) -> None:
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PLAYER, str(folder / "sandboxes"), "echo begun; sleep 654321",
        cwd=EXAMPLE, stdout=asyncio.subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert worker.stdout is not None
    assert b"begun" in await worker.stdout.readline()
    await until(lambda: bool(sleepers("654321")))
    worker.kill()
    await worker.wait()
    await until(lambda: not sleepers("654321"))
    assert worker.returncode == -9


PLAIN = shutil.which("python3", path="/usr/local/bin:/usr/bin")
BOMB = "while true; do sleep 3 & done"


@pytest.mark.skipif(
    os.geteuid() != 0 or PLAIN is None or sys.platform != "linux",
    reason="only root can be somebody else, who needs a Python that is everybody's",
)
def test_the_limits_hold_where_the_worker_is_not_root(folder: Path) -> None:
    own = folder / "own"
    own.mkdir()
    os.chown(own, 54_321, 54_321)
    for name in ("sandbox.py", "local_sandbox.py", "keeper.py"):
        shutil.copy(EXAMPLE / name, own)
    done = subprocess.run(
        [str(PLAIN), "-c", PLAYER, str(own / "sandboxes"), f"cat a/b; id -u; ({BOMB})"],
        cwd=own, user=54_321, group=54_321, extra_groups=(), env={}, capture_output=True,
        text=True, check=False, timeout=50,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = "".join(re.findall(r"Output\(text='(.*?)'\)", done.stdout))  # in pieces of any size
    assert said.startswith("there54321\\n")
    assert "Cannot fork" in said
    assert not [one for one in psutil.process_iter(["uids"]) if one.info["uids"].real == 54_321]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give sandboxes users of their own")
async def test_each_sandbox_has_a_user_of_its_own(sandboxes: LocalSandboxes, folder: Path) -> None:
    await sandboxes.create("other")
    await sandboxes.write("other", "private", "mine")
    printed, _ = await finished(sandboxes, "id -u; id -G; cat ../other/private; touch ../x")
    users = {(sandboxes.folder / name).stat().st_uid for name in (NAME, "other")}
    assert len(users) == 2
    assert 0 not in users
    assert "mine" not in printed
    assert int(printed.splitlines()[0]) in users
    os.chmod(folder, 0o700)  # noqa: PTH101
    with pytest.raises(SandboxError, match="closed to other users"):
        await finished(sandboxes, "true")
