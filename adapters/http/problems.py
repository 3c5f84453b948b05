"""Refusals and errors as answers: problem documents (RFC 9457) with the error's code."""

import json

from offbook.actors import errors
from offbook.actors.ports import Unsure
from offbook.actors.requests import Response

from .asgi import Headers

TOO_DEEP = "it nests too deep to be told as JSON"
"""Of a result, or of a chunk."""


class Problem(Exception):
    """Why a request is refused.

    code: stable, for programs: an error's, or one of this edge. close: the connection ends with
    the answer, since not all of the request was read.
    """

    def __init__(
        self, status: int, code: str, detail: str, headers: Headers = (), *, close: bool = False
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = headers
        self.close = close

    def response(self) -> Response:
        """Return the answer."""
        document = {"status": self.status, "code": self.code, "detail": self.detail}
        headers = {"content-type": "application/problem+json", "cache-control": "no-store"}
        return Response(
            self.status,
            headers | dict(self.headers),
            json.dumps(document, ensure_ascii=False).encode("utf-8", "backslashreplace"),
        )


_STATUS: tuple[tuple[type[errors.OffbookError], int], ...] = (
    (errors.RunNotFound, 404),
    (errors.HookNotFound, 404),
    (errors.RunExpired, 410),
    (errors.RunConflict, 409),
    (errors.RunFailed, 409),
    (errors.RunCancelled, 409),
    (errors.RunTerminated, 409),
    (errors.PayloadTooLarge, 413),
    (errors.PayloadError, 422),
    (errors.InvalidArguments, 422),
    (errors.InvalidAttributes, 422),
    (errors.InvalidName, 422),
    (errors.InvalidOption, 422),
    (errors.WorkflowNotRegistered, 503),
    (errors.ServerUnavailable, 503),
    (errors.ServerRefused, 503),
    (errors.ClientClosed, 503),
)


def problem_of(error: errors.OffbookError) -> Problem:
    """Return the answer to a request that led to an error of offbook."""
    if isinstance(error, Unsure):
        error = errors.ServerUnavailable("answering")
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    later = [("retry-after", "1")] if status == 503 else []  # noqa: PLR2004 - unavailable
    return Problem(status, error.code, _told(error), later)


def _told(error: errors.OffbookError) -> str:
    """Return the text of an error, with a cure that a caller by HTTP can take."""
    if isinstance(error, errors.RunConflict):
        return (
            f"run {error.run!r} exists already ({error.workflow}) with {error.reason}: "
            "send another id or Idempotency-Key"
        )
    return str(error)


def unknown(detail: str = "there is nothing here") -> Problem:
    """Return the answer where no route leads."""
    return Problem(404, "not-found", detail)


def wrong_method(allowed: tuple[str, ...]) -> Problem:
    """Return the answer to a method that a route does not take."""
    listed = ", ".join(allowed)
    return Problem(405, "method-not-allowed", f"it takes {listed}", [("allow", listed)], close=True)
