"""What logs and lists say of an error that parks a run: nothing that a user entered."""

import pytest

from offbook import HistoryLost, KeyMissing, PayloadMismatch
from offbook.actors.parking import reason_of, text_for_all


def fail(text: str) -> None:
    raise RuntimeError(text)


def test_texts_of_ours_are_told() -> None:
    assert "record 7" in text_for_all(HistoryLost("r", "7"))
    assert "'k2'" in text_for_all(KeyMissing("k2"))
    assert reason_of(KeyMissing("k2")) == "key-missing"


def test_texts_of_others_are_not_told_but_where_they_were_raised() -> None:
    secret = "what a user entered"
    with pytest.raises(RuntimeError) as caught:
        fail(secret)
    told = text_for_all(caught.value)
    assert told.startswith("RuntimeError at test_blocked_texts.py:")
    assert secret not in told
    assert text_for_all(RuntimeError(secret)) == "RuntimeError"
    assert text_for_all(PayloadMismatch("x", "int", secret)) == "PayloadMismatch"
