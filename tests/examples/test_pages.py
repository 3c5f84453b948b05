"""The pages of the examples: what the repository ships of them is what their sources build to."""

import subprocess
from pathlib import Path

import pytest

from support.npm import PAGES, installed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_what_is_shipped_of_a_page_is_a_fresh_build(page: Path, tmp_path: Path) -> None:
    vite = installed(page) / "node_modules" / "vite" / "bin" / "vite.js"
    command = ["node", str(vite), "build", "--outDir", str(tmp_path), "--emptyOutDir"]
    done = subprocess.run(command, cwd=page, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    built, shipped = files(tmp_path), files(page.parent / "dist")
    assert built.keys() == shipped.keys()
    assert [name for name in built if built[name] != shipped[name]] == []
