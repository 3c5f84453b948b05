"""The keys that `connect` takes from the environment, and what it refuses."""

import base64
import importlib.util
import os
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest

from offbook import InvalidOption, MissingDependency, connect
from offbook._connect import cipher_from_environment
from offbook.adapters.cipher import AesGcm

KEY = base64.b64encode(os.urandom(32)).decode()
URL = "nats://127.0.0.1:1"


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OFFBOOK_KEYS", "OFFBOOK_KEY_FILE", "OFFBOOK_REQUIRE_SEALED"):
        monkeypatch.delenv(name, raising=False)


def test_without_keys_nothing_is_sealed() -> None:
    assert cipher_from_environment() is None


def test_keys_of_the_environment_seal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFFBOOK_KEYS", f"k1:{KEY}")
    monkeypatch.setenv("OFFBOOK_REQUIRE_SEALED", "1")
    cipher = cipher_from_environment()
    assert isinstance(cipher, AesGcm)
    assert (cipher.active, cipher.require) == ("k1", True)


def test_keys_of_a_file_seal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"k9:{KEY}\n")
    monkeypatch.setenv("OFFBOOK_KEY_FILE", str(tmp_path / "keys"))
    cipher = cipher_from_environment()
    assert isinstance(cipher, AesGcm)
    assert (cipher.active, cipher.require) == ("k9", False)


@pytest.mark.parametrize(
    "given",
    [
        {"OFFBOOK_REQUIRE_SEALED": "1"},
        {"OFFBOOK_KEYS": f"k1:{KEY}", "OFFBOOK_REQUIRE_SEALED": "maybe"},
        {"OFFBOOK_KEYS": f"k1:{KEY}", "OFFBOOK_KEY_FILE": "keys"},
        {"OFFBOOK_KEY_FILE": "not there"},
        {"OFFBOOK_KEYS": "nonsense"},
    ],
)
def test_what_cannot_be_is_refused(monkeypatch: pytest.MonkeyPatch, given: dict[str, str]) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InvalidOption) as caught:
        connect(URL)
    assert KEY not in str(caught.value)


def test_a_cipher_that_is_none_is_refused() -> None:
    wrong: Any = "k1"
    with pytest.raises(InvalidOption, match="cipher"):
        connect(URL, cipher=wrong)


def test_keys_without_the_package_for_them_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFFBOOK_KEYS", f"k1:{KEY}")
    real = importlib.util.find_spec

    def lacking(name: str) -> ModuleSpec | None:
        return None if name == "cryptography" else real(name)

    monkeypatch.setattr("offbook._connect.find_spec", lacking)
    with pytest.raises(MissingDependency, match=r"pip install .offbook\[crypto\]"):
        connect(URL)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"OFFBOOK_KEYS": f"k1:{KEY},nonsense"}, "got no colon in key 2"),
        ({"OFFBOOK_KEYS": f"k1:{KEY},k1:{KEY}"}, "got an id that is none, or not new, in key 2"),
        ({"OFFBOOK_KEYS": f"{KEY}:k1"}, "got an id that is none, or not new, in key 1"),
        ({"OFFBOOK_KEYS": f"k1:{KEY[:20]}"}, "got 15 bytes in key 1"),
        ({"OFFBOOK_KEYS": "k1:%%%"}, "got no base64 in key 1"),
        ({"OFFBOOK_REQUIRE_SEALED": "1"}, "OFFBOOK_KEYS or OFFBOOK_KEY_FILE, got no keys"),
    ],
)
def test_what_is_wrong_with_keys_is_told_in_words_and_shows_none(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], told: str
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InvalidOption) as caught:
        connect(URL)
    assert told in str(caught.value)
    assert KEY[:20] not in str(caught.value)


def test_that_nothing_shall_be_sealed_may_be_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFFBOOK_REQUIRE_SEALED", "0")
    assert cipher_from_environment() is None
