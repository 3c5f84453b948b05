"""Server-sent events come out the same however the bytes were cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offbook.agent.models import sse
from offbook.agent.models.sse import EventReader, ServerEvent
from support.foreign import few

ENDS = ["\n", "\r", "\r\n"]
lines = st.lists(
    st.one_of(
        st.builds(
            "{}{}{}".format,
            st.sampled_from(["data", "event", "id", "retry", "", "other"]),
            st.sampled_from([":", ": ", ""]),
            st.text(st.characters(exclude_characters="\r\n", codec="utf-8")),
        ),
        st.just(""),
    )
)


def read(pieces: list[bytes]) -> list[ServerEvent]:
    reader = EventReader()
    return [event for piece in pieces for event in reader.feed(piece)]


@few
@given(lines, st.lists(st.sampled_from(ENDS), min_size=1), st.data())
def test_any_split_gives_the_same_events(
    written: list[str], ends: list[str], data: st.DataObject
) -> None:
    text = "".join(line + ends[i % len(ends)] for i, line in enumerate(written)) + "x"
    whole = text.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)))))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert read(pieces) == read([whole])
    assert read([whole[i : i + 1] for i in range(len(whole))]) == read([whole])


def test_the_fields_of_an_event_are_read() -> None:
    found = read([b"\xef\xbb\xbf: hello\nid: 7\nevent: greet\ndata: a\ndata:b\n\ndata\n\n"])
    assert found == [ServerEvent("a\nb", "greet", "7"), ServerEvent("", "message", "7")]


def test_what_comes_after_the_last_blank_line_is_no_event() -> None:
    assert read([b"data: 1\n\ndata: 2\n"]) == [ServerEvent("1")]


def test_bytes_that_are_no_text_are_marked() -> None:
    assert read([b"data: \xff!\n\n"]) == [ServerEvent("\ufffd!")]


def test_an_event_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "LIMIT", 10)
    reader = EventReader()
    for _ in range(5):
        assert reader.feed(b"data: 1\n\n") == [ServerEvent("1")]
    with pytest.raises(ValueError, match="more than 10"):
        reader.feed(b"data: 0123456789")
