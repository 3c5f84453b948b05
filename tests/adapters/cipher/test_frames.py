"""What is sealed opens where it was sealed and nowhere else; keys come from where they should."""

import base64
import os
import secrets
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offbook.actors.errors import InvalidOption, KeyMissing, OffbookError, SealBroken, SealMissing
from offbook.adapters.cipher import AesGcm, KeyRing
from offbook.adapters.cipher.aes import RUNS_KEPT
from support.forgery import TRICKS, taken
from support.worlds import sealing

PLACE = ("run", "t.1", "log")
FORGERIES = int(os.environ.get("OFFBOOK_FORGERIES", "700"))


def key_text(key: bytes) -> str:
    return base64.b64encode(key).decode()


async def ready(*ids: str, require: bool = True) -> AesGcm:
    cipher = AesGcm(KeyRing.of({key_id: os.urandom(32) for key_id in ids}), require=require)
    await cipher.ready()
    return cipher


async def test_forged_frames_are_refused() -> None:
    cipher = await ready("k2", "k1")
    seed = secrets.randbelow(2**32)
    assert taken(cipher, seed, FORGERIES) == []
    assert 100 * len(TRICKS) <= FORGERIES


async def test_a_forgery_that_is_none_is_taken() -> None:
    """The test before can fail: what is not changed opens."""
    cipher = await ready("k2")
    assert cipher.open(*PLACE, cipher.seal(*PLACE, b"\x81data")) == b"\x81data"


@given(data=st.binary(max_size=2_000), names=st.lists(st.text("ab-_", min_size=1), min_size=3))
@settings(max_examples=100, deadline=None)
def test_what_is_sealed_opens_where_it_belongs(data: bytes, names: list[str]) -> None:
    run, key, field, *_ = names
    cipher = AesGcm(KeyRing.of({"k": b"k" * 32}))
    cipher._masters["k"] = b"k" * 32  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - no loop
    frame = cipher.seal(run, key, field, data)
    assert cipher.open(run, key, field, frame) == data
    assert len(data) < 8 or data not in frame
    for other in ((run + "a", key, field), (run, key + "a", field), (run, key, field + "a")):
        with pytest.raises(SealBroken):
            cipher.open(*other, frame)


async def test_equal_data_give_equal_frames_only_where_that_is_wanted() -> None:
    cipher = await ready("k")
    assert len({cipher.seal(*PLACE, b"data") for _ in range(50)}) == 50
    assert len({cipher.seal(*PLACE, b"data", same=True) for _ in range(50)}) == 1
    others = {cipher.seal(*PLACE, b"data%d" % n, same=True)[8:20] for n in range(50)}
    assert len(others) == 50, "a nonce is not used for other data"


async def test_runs_have_keys_of_their_own_and_few_are_kept() -> None:
    cipher = await ready("k")
    frames = {f"r{n}": cipher.seal(f"r{n}", "0", "log", b"x") for n in range(RUNS_KEPT + 50)}
    assert len(cipher._runs) == RUNS_KEPT  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - the bound
    assert cipher.open("r0", "0", "log", frames["r0"]) == b"x"


async def test_what_stands_for_a_digest_tells_nothing_of_it() -> None:
    cipher, other = await ready("k"), await ready("k")
    names = {cipher.names("r1", "ab")[0], cipher.names("r2", "ab")[0], other.names("r1", "ab")[0]}
    assert len(names) == 3
    assert cipher.names("r1", "ab") == cipher.names("r1", "ab")
    assert "ab" not in names


async def test_payloads_in_the_clear_are_taken_unless_seals_are_required() -> None:
    lax, strict = await ready("k", require=False), await ready("k")
    assert lax.open(*PLACE, b"\x81clear") == b"\x81clear"
    with pytest.raises(SealMissing, match="in the clear"):
        strict.open(*PLACE, b"\x81clear")


async def test_a_key_that_has_retired_opens_and_seals_no_more() -> None:
    keys = {key_id: os.urandom(32) for key_id in ("k1", "k2")}
    before = AesGcm(KeyRing.of({"k1": keys["k1"]}))
    await before.ready()
    frame = before.seal(*PLACE, b"old")
    after = AesGcm(KeyRing.of({"k2": keys["k2"], "k1": keys["k1"]}))
    await after.ready()
    assert after.lacks(frame)
    with pytest.raises(KeyMissing, match="k1"):
        after.open(*PLACE, frame)
    await after.fetch("k1")
    assert after.open(*PLACE, frame) == b"old"
    assert not after.lacks(after.seal(*PLACE, b"new"))
    with pytest.raises(KeyMissing, match="k2"):
        before.open(*PLACE, after.seal(*PLACE, b"new"))
    await before.ready()
    await after.rotate("k1")
    assert before.open(*PLACE, after.seal(*PLACE, b"back")) == b"back"


# Where keys come from


async def test_keys_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    new, old = os.urandom(32), os.urandom(32)
    urlsafe = base64.urlsafe_b64encode(old).decode().rstrip("=")
    monkeypatch.setenv("OFFBOOK_KEYS", f"k2:{key_text(new)}, k1:{urlsafe}")
    ring = KeyRing.from_environment()
    assert (ring.active, list(ring.retired)) == ("k2", ["k1"])
    assert (await ring.get("k2"), await ring.get("k1")) == (new, old)


async def test_a_file_of_keys_is_read_again_for_one_that_is_new(tmp_path: Path) -> None:
    first, second = os.urandom(32), os.urandom(32)
    path = tmp_path / "keys"
    path.write_text(f"# ours\n\nk1:{key_text(first)}\n")
    ring = KeyRing.from_file(path)
    assert (ring.active, await ring.get("k1")) == ("k1", first)
    with pytest.raises(KeyMissing):
        await ring.get("k2")
    path.write_text(f"k2:{key_text(second)}\nk1:{key_text(first)}\n")
    assert await ring.get("k2") == second
    path.unlink()
    with pytest.raises(InvalidOption):
        await ring.get("k3")


SECRET = key_text(b"s" * 31)  # one byte short


@pytest.mark.parametrize(
    "text", ["", ",", "k1", f"k1:{SECRET}", f"k.1:{key_text(b's' * 32)}", "k1:*" + SECRET]
)
def test_bad_keys_are_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("OFFBOOK_KEYS", text)
    with pytest.raises(InvalidOption) as caught:
        KeyRing.from_environment()
    assert SECRET[:12] not in str(caught.value)


async def test_a_source_may_answer_later_fail_or_give_nonsense() -> None:
    async def later(key_id: str) -> bytes | None:
        return None if key_id == "none" else b"k" * 32

    def broken(key_id: str) -> bytes:
        raise RuntimeError(f"no answer for {key_id}: {SECRET}")

    assert await KeyRing(later, "k").get("k") == b"k" * 32
    with pytest.raises(KeyMissing, match="none"):
        await KeyRing(later, "k").get("none")
    with pytest.raises(KeyMissing, match="RuntimeError") as caught:
        await KeyRing(broken, "k").get("k")
    assert SECRET not in str(caught.value)
    with pytest.raises(InvalidOption, match="32 bytes"):
        await KeyRing(lambda _id: b"short", "k").get("k")


@pytest.mark.parametrize("keys", [{}, {"k": b"short"}, {"k/1": b"k" * 32}, {"": b"k" * 32}])
def test_keys_that_are_none_are_refused(keys: dict[str, bytes]) -> None:
    with pytest.raises(OffbookError) as caught:
        KeyRing.of(keys)
    assert "short" not in str(caught.value)


async def test_no_repr_shows_a_key() -> None:
    key = b"0123456789abcdef" * 2
    cipher = AesGcm(KeyRing.of({"k": key}))
    await cipher.ready()
    cipher.seal(*PLACE, b"x")
    shown = repr(cipher) + repr(KeyRing.of({"k": key})) + repr(sealing())
    assert "0123456789" not in shown
