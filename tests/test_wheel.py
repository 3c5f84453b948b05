"""What is shipped: built from a copy of what git tracks, with left-overs planted in it."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("actors", "adapters", "agent", "ops")
LEFT_OVERS = (  # hidden or ignored: shipped nowhere
    "ops/.env",
    "actors/.hidden.py",
    "actors/__pycache__/model.cpython-311.pyc",
    "dist/old.whl",
    "build/lib.py",
    ".venv/lib/site.py",
)
STRAYS = ("adapters/fast.so", "agent/notes.txt")  # not in the wheel; an sdist takes them along


def tracked() -> list[str]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    shown = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    names = [name for name in shown.stdout.split("\0") if name]
    return [name for name in names if os.path.lexists(ROOT / name)]


def hatchling(folder: Path, target: str, out: Path) -> Path:
    """Build without isolation and without network: hatchling is in the environment."""
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(out)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (built,) = out.iterdir()
    return built


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkout")
    for name in tracked():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target, follow_symlinks=False)
    for name in (*LEFT_OVERS, *STRAYS):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("left over")
    return folder


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hatchling(checkout, "wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hatchling(checkout, "sdist", tmp_path_factory.mktemp("sdist"))


def shipped_name(name: str) -> str | None:
    """Return where a tracked file lies in the wheel, None where it is not shipped."""
    if re.match(r"ops/(chaos|deploy|web)/", name):
        return None
    if re.fullmatch(r"src/offbook/([^/]+\.py|py\.typed)", name):
        return name.removeprefix("src/")
    if name.startswith("docs/errors/"):
        return name.replace("docs/errors", "offbook/ops/pages")
    in_part = name.startswith(tuple(f"{part}/" for part in PARTS))
    if in_part and (name.endswith(".py") or name.startswith("ops/dashboard/static/")):
        return f"offbook/{name}"
    return None


def test_the_wheel_holds_exactly_what_git_tracks(wheel: Path) -> None:
    expected = {shipped for name in tracked() if (shipped := shipped_name(name))}
    names = {n for n in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in n}
    assert names == expected
    assert "offbook/actors/errors.py" in names
    assert "offbook/py.typed" in names
    assert "offbook/ops/pages/run-failed.md" in names


def test_the_wheel_carries_licence_and_command(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        info = {
            n.split(".dist-info/")[1]: archive.read(n).decode()
            for n in archive.namelist()
            if ".dist-info/" in n
        }
    assert "Apache License" in info["licenses/LICENSE"]
    assert "offbook = offbook.ops.cli:main" in info["entry_points.txt"]
    assert "License-Expression: Apache-2.0" in info["METADATA"]


def test_the_sdist_has_no_links_and_nothing_hidden(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        members = archive.getmembers()
    assert [m.name for m in members if m.issym() or m.islnk()] == []
    inside = {m.name.split("/", 1)[1] for m in members}
    assert inside - {"PKG-INFO"} <= {*tracked(), *STRAYS}
    assert {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md"} <= inside


def test_the_wheel_from_the_sdist_is_the_same_to_the_byte(
    wheel: Path, sdist: Path, tmp_path: Path
) -> None:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "source", filter="data")
    (source,) = (tmp_path / "source").iterdir()
    again = hatchling(source, "wheel", tmp_path / "wheel")
    assert again.name == wheel.name
    assert again.read_bytes() == wheel.read_bytes()


def test_every_part_imports_from_the_wheel(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    parts = ", ".join(f"offbook.{part}" for part in PARTS)
    done = subprocess.run(
        [sys.executable, "-c", f"import offbook, {parts}; print(offbook.actors.__file__)"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()) == tmp_path / "offbook" / "actors" / "__init__.py"
