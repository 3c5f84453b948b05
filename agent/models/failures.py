"""What a vendor's refusal means: whether asking again may help, and when."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from ..errors import ModelError
from .reading import Json, obj, optional, parsed, words

LONGEST_MESSAGE = 2_000
LONGEST_WAIT = 31 * 86_400.0
"""Seconds; whoever says more has lost count."""

_SERVER = 500
_AGAIN = frozenset({408, 409, 429})
_FATAL_CODES = frozenset(
    {
        "authentication_error",
        "billing_error",
        "content_policy_violation",
        "context_length_exceeded",
        "insufficient_quota",
        "not_found_error",
        "permission_error",
        "request_too_large",
    }
)
_STATUS_OF = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "api_error": 500,
    "server_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}


def may_help(status: int, headers: Mapping[str, str]) -> bool:
    """Return whether asking again may help after an answer with this status.

    Args:
        status: The HTTP status.
        headers: The answer's, by lower-case names; `x-should-retry` has the last word.
    """
    told = headers.get("x-should-retry", "").strip().lower()
    if told in {"true", "false"}:
        return told == "true"
    return status in _AGAIN or status >= _SERVER


def wait_of(headers: Mapping[str, str], now: datetime) -> float | None:
    """Return the seconds after which the vendor wants to be asked again, if it said so.

    Args:
        headers: The answer's, by lower-case names: `retry-after-ms`, else `retry-after` as seconds
            or as a date.
        now: The time, aware.
    """
    milliseconds = _seconds(headers.get("retry-after-ms"))
    given = headers.get("retry-after")
    found = _seconds(given) if milliseconds is None else milliseconds / 1000
    found = _until(given, now) if found is None else found
    return None if found is None else min(found, LONGEST_WAIT)


def _seconds(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


def _until(text: str | None, now: datetime) -> float | None:
    try:
        then = parsedate_to_datetime(text or "")
    except ValueError:
        return None
    aware = then if then.tzinfo else then.replace(tzinfo=UTC)
    return max(0.0, (aware - now).total_seconds())


@dataclass(frozen=True, slots=True)
class Source:
    """Who answers: what the errors of one call have in common."""

    provider: str
    model: str

    def fatal(self, message: str, code: str) -> ModelError:
        """Return the error of a request that cannot be sent."""
        return ModelError(self.provider, self.model, message, vendor_code=code)

    def broken(self, message: str, code: str) -> ModelError:
        """Return the error of a connection or stream that broke."""
        return ModelError(self.provider, self.model, message, vendor_code=code, retryable=True)

    def read(self, data: str, event: str = "") -> tuple[str, Json]:
        """Return the type and the data of an event of a stream; `event` is its name outside.

        Raises:
            ModelError: it cannot be read, or says that the vendor failed.
        """
        found = parsed(data)
        if found is None:
            raise self.broken("the stream holds what is no JSON", "stream-broken")
        kind = words(found, "type") or event
        if kind == "error":
            raise self.failed(found)
        return kind, found

    def cut(self) -> ModelError:
        """Return the error of a stream without an end."""
        return self.broken("the answer was cut before its end", "stream-cut")

    def refused(
        self, status: int, headers: Mapping[str, str], body: bytes, now: datetime
    ) -> ModelError:
        """Return the error that an answer with an HTTP error is."""
        found = parsed(body) or {}
        message, code = _told(found)
        if not message:
            message = body[:LONGEST_MESSAGE].decode("utf-8", "replace").strip() or "no reason given"
        return ModelError(
            self.provider,
            self.model,
            message[:LONGEST_MESSAGE],
            status=status,
            vendor_code=code,
            retryable=may_help(status, headers),
            retry_after=wait_of(headers, now),
        )

    def failed(self, error: Json) -> ModelError:
        """Return the error that a vendor told inside of a stream."""
        message, code = _told(error)
        kind = words(obj(error, "error") or error, "type")
        status = optional(obj(error, "error") or error, "code")
        status = status or _STATUS_OF.get(code) or _STATUS_OF.get(kind)
        fatal = code in _FATAL_CODES or kind in _FATAL_CODES or code.startswith("invalid_")
        return ModelError(
            self.provider,
            self.model,
            message[:LONGEST_MESSAGE] or "the vendor failed without a reason",
            status=status,
            vendor_code=code,
            retryable=not fatal and (status is None or may_help(status, {})),
        )


def _told(body: Json) -> tuple[str, str]:
    """Return the message and the code of an error's body, in any vendor's form."""
    error = obj(body, "error") or body
    code = words(error, "code") or words(error, "type") or words(error, "status")
    message = words(error, "message") or words(body, "error") or words(body, "detail")
    return message, code
