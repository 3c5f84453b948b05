"""Packages of extras: not loaded unless they are asked for, and named where they are missing."""

import subprocess
import sys

import pytest

EXTRAS = {"mcp": "mcp", "pydantic-ai": "pydantic_ai", "langgraph": "langgraph"}


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=50
    )
    return done.stdout.strip()


@pytest.mark.parametrize("extra", EXTRAS)
def test_a_missing_package_is_named_with_its_extra(extra: str) -> None:
    package = EXTRAS[extra]
    code = f"""
import sys
sys.modules[{package!r}] = None
from offbook import MissingDependency
try:
    import offbook.adapters.{package}
except MissingDependency as error:
    print(error)
"""
    assert run(code).endswith(f"the package 'offbook[{extra}]': pip install 'offbook[{extra}]'")


def test_the_face_and_the_agent_load_none_of_them() -> None:
    names = sorted(EXTRAS.values())
    code = f"import sys, offbook, offbook.agent; print([n for n in {names} if n in sys.modules])"
    assert run(code) == "[]"
