"""What a vendor's refusal means."""

from datetime import UTC, datetime

import pytest

from offbook import FatalError, OffbookError
from offbook.actors.codec import Codec
from offbook.agent.errors import ModelError
from offbook.agent.models.failures import Source, may_help, wait_of

NOW = datetime(2026, 11, 5, 12, 0, tzinfo=UTC)
SOURCE = Source("openai", "gpt-5")


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504, 529])
def test_asking_again_may_help(status: int) -> None:
    assert may_help(status, {})
    assert not may_help(status, {"x-should-retry": "false"})


@pytest.mark.parametrize("status", [301, 400, 401, 402, 403, 404, 413, 422])
def test_asking_again_gives_the_same(status: int) -> None:
    assert not may_help(status, {})
    assert may_help(status, {"x-should-retry": "true"})


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "7"}, 7.0),
        ({"retry-after": "Thu, 05 Nov 2026 12:10:00 GMT"}, 600.0),
        ({"retry-after": "Thu, 05 Nov 2026 11:00:00 GMT"}, 0.0),
        ({"retry-after": "Thu, 05 Nov 2026 13:10:00 +0100"}, 600.0),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "later"}, None),
        ({"retry-after": "99999999999"}, 31 * 86_400.0),
        ({"retry-after": "Sun, 05 Nov 9999 12:00:00 GMT"}, 31 * 86_400.0),
    ],
)
def test_when_the_vendor_wants_to_be_asked_again(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert wait_of(headers, NOW) == seconds


@pytest.mark.parametrize(
    ("body", "message", "code"),
    [
        (b'{"error": {"message": "slow", "type": "t", "code": "c"}}', "slow", "c"),
        (b'{"error": {"message": "slow", "type": "t", "code": null}}', "slow", "t"),
        (b'{"type": "error", "error": {"type": "api_error", "message": "m"}}', "m", "api_error"),
        (b'{"detail": "not here"}', "not here", ""),
        (b'{"error": "just text"}', "just text", ""),
        (b"<html>busy</html>", "<html>busy</html>", ""),
        (b"\xff", "\ufffd", ""),
        (b"", "no reason given", ""),
    ],
)
def test_the_reason_is_found_in_any_vendors_words(body: bytes, message: str, code: str) -> None:
    error = SOURCE.refused(503, {"retry-after": "2"}, body, NOW)
    assert (error.message, error.vendor_code) == (message, code)
    assert (error.status, error.retryable, error.retry_after) == (503, True, 2.0)


@pytest.mark.parametrize(
    ("told", "status", "retryable"),
    [
        ({"error": {"type": "overloaded_error", "message": "m"}}, 529, True),
        ({"error": {"type": "invalid_request_error", "message": "m"}}, 400, False),
        ({"error": {"code": 429, "message": "m"}}, 429, True),
        ({"error": {"code": 400, "message": "m"}}, 400, False),
        ({"code": "server_error", "message": "m"}, 500, True),
        ({"code": "rate_limit_exceeded", "message": "m"}, 429, True),
        ({"code": "invalid_prompt", "message": "m"}, None, False),
        ({"code": "context_length_exceeded", "message": "m"}, None, False),
        ({}, None, True),
    ],
)
def test_an_error_inside_of_a_stream(
    told: dict[str, object], status: int | None, retryable: object
) -> None:
    error = SOURCE.failed(told)
    assert (error.status, error.retryable) == (status, retryable)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            SOURCE.refused(429, {"retry-after": "7"}, b'{"error":{"message":"slow"}}', NOW),
            "openai, gpt-5: slow (HTTP 429); try again in 7 s",
        ),
        (SOURCE.cut(), "the answer was cut before its end (stream-cut); try again"),
        (SOURCE.refused(401, {}, b"no", NOW), "no (HTTP 401); check the API key in the worker's"),
        (SOURCE.refused(404, {}, b"no", NOW), "check the model's name and the base URL"),
        (SOURCE.refused(400, {}, b"no", NOW), "mend the request: asking again gives the same"),
    ],
)
def test_the_text_gives_cause_and_cure(error: ModelError, text: str) -> None:
    assert text in str(error)


def test_it_crosses_from_a_step_to_its_workflow() -> None:
    codec = Codec()
    error = SOURCE.refused(429, {"retry-after": "7"}, b'{"error":{"message":"slow"}}', NOW)
    back = codec.decode_error(codec.encode_error(error), "step")
    assert isinstance(back, ModelError)
    assert isinstance(back, OffbookError)
    assert not isinstance(back, FatalError)
    assert vars(back) | {"remote_traceback": None} == vars(error) | {"remote_traceback": None}
    assert str(back) == str(error)
