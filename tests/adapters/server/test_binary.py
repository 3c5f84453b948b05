import os
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from offbook.actors.errors import ServerMissing, ServerTooOld
from offbook.adapters.server import binary, find_binary

Place = Callable[[str, str], Path]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Puts a script as nats-server into `scripts` or `path`, where nothing else is found."""
    for name in ("scripts", "path", "prefix"):
        (tmp_path / name).mkdir()

    def scripts(_name: str) -> str:
        return str(tmp_path / "scripts")

    monkeypatch.setattr(sysconfig, "get_path", scripts)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "prefix"))
    monkeypatch.setattr(binary, "_wheel_files", lambda: iter(()))
    monkeypatch.setenv("PATH", str(tmp_path / "path"))

    def put(folder: str, body: str) -> Path:
        file = tmp_path / folder / "nats-server"
        file.write_text(f"#!/bin/sh\n{body}\n")
        file.chmod(0o755)
        return file

    return put


def test_the_wheel_s_server_is_found() -> None:
    found = find_binary()
    assert found.name == "nats-server"
    assert os.access(found, os.X_OK)


def test_the_wheel_tells_where_its_server_is(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = find_binary()
    monkeypatch.setattr(binary, "_scripts", lambda: iter(()))
    monkeypatch.setenv("PATH", "")
    assert find_binary() == expected


def test_no_server_at_all_is_told_with_both_cures(place: Place) -> None:
    del place
    with pytest.raises(ServerMissing, match=r"OFFBOOK_URL.*offbook\[server\]"):
        find_binary()


def test_a_server_that_does_not_run_is_no_server(place: Place) -> None:
    place("scripts", "exit 1")
    with pytest.raises(ServerMissing):
        find_binary()


def test_an_old_server_is_refused_with_its_version(place: Place) -> None:
    place("scripts", "echo nats-server: v2.14.9")
    with pytest.raises(ServerTooOld) as caught:
        find_binary()
    assert (caught.value.version, caught.value.required) == ("2.14.9", "2.15")


def test_a_new_server_elsewhere_wins_over_an_old_one_nearby(place: Place) -> None:
    place("scripts", "echo nats-server: v2.9.0")
    new = place("path", "echo nats-server: v2.100.0-beta.1")
    assert find_binary() == new


def test_a_server_that_was_upgraded_in_place_is_asked_again(place: Place) -> None:
    file = place("scripts", "echo nats-server: v2.14.0")
    with pytest.raises(ServerTooOld):
        find_binary()
    place("scripts", "echo nats-server: v2.15.0")
    os.utime(file, ns=(1, 1))
    assert find_binary() == file
