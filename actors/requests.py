"""What reaches a webhook, and what its caller is told: requests and responses as values."""

import json as jsons
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypedDict, TypeVar
from urllib.parse import parse_qsl, urlsplit

from .context import current_body, step_context
from .define import step
from .errors import HookRejected, InvalidOption, NotInRun
from .jsonable import jsonable
from .options import UNSET

if TYPE_CHECKING:
    from .client import Client

T = TypeVar("T")

TOKEN_MARK = "{token}"  # noqa: S105 - what stands for the token where a request is stored

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}\Z")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*\Z")
_OF_THE_WIRE = frozenset(
    {
        *("connection", "content-length", "keep-alive", "proxy-connection", "te", "trailer"),
        *("transfer-encoding", "upgrade"),
    }
)
_STATUS = range(200, 600)
_BODILESS = frozenset({204, 205, 304})


class Sent(TypedDict):
    """A request as the log holds it: the token in its address is a mark."""

    id: str
    method: str
    url: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, init=False)
class Response:
    """What a caller is told: a status, headers, and a body of bytes, text or JSON.

    Raises:
        InvalidOption: the status is not 200 to 599, a header could not be sent (a line break in
            it, a name of the connection's own), or the body does not go with the rest.
    """

    status: int
    headers: dict[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""

    def __init__(
        self,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        body: bytes | str | None = None,
        *,
        json: Any = UNSET,  # noqa: ANN401 - what JSON can hold, dataclasses and models too
    ) -> None:
        if json is not UNSET and body is not None:
            raise InvalidOption("body", body, "left out where json= is given")
        data, kind = _body(body, json)
        checked = _checked({} if headers is None else headers)
        if data and kind and "content-type" not in checked:
            checked["content-type"] = kind
        if isinstance(status, bool) or status not in _STATUS:
            raise InvalidOption("status", status, "a number from 200 to 599")
        if data and status in _BODILESS:
            raise InvalidOption("body", data, f"empty where the status is {status}")
        object.__setattr__(self, "status", int(status))
        object.__setattr__(self, "headers", checked)
        object.__setattr__(self, "body", data)


def _body(body: bytes | str | None, json: object) -> tuple[bytes, str]:
    if json is not UNSET:
        text = jsons.dumps(jsonable(json), ensure_ascii=False, separators=(",", ":"))
        return text.encode("utf-8", "backslashreplace"), "application/json"
    if body is None:
        return b"", ""
    if isinstance(body, str):
        return body.encode(), "text/plain; charset=utf-8"
    if not isinstance(body, bytes):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidOption("body", body, "bytes or text; for anything else say json=")
    return body, "application/octet-stream"


def _checked(headers: Mapping[str, str]) -> dict[str, str]:
    if not isinstance(headers, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidOption("headers", headers, "a mapping of names to values")
    found: dict[str, str] = {}
    for name, value in headers.items():
        lower = str(name).lower()
        if not _NAME.match(lower) or lower in _OF_THE_WIRE:
            raise InvalidOption("headers", name, "names of HTTP headers that are not the wire's")
        if not isinstance(value, str) or not _VALUE.match(value):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidOption(f"headers[{lower!r}]", value, "text without line breaks")
        found[lower] = value
    return found


@dataclass(frozen=True)
class Request(Generic[T]):
    """One request to a webhook. `payload` is its body as the webhook's type says.

    `id` is the sender's `webhook-id`, or drawn where it gave none. Names of headers are in lower
    case; several of one name are joined by commas. `url` holds the token. A request can be passed
    to steps and children.
    """

    run: str
    hook: str
    id: str
    method: str
    url: str
    headers: dict[str, str]
    body: bytes
    payload: T
    held: bool = False

    def __repr__(self) -> str:
        # Not the address: whoever has it can send.
        return f"<Request {self.method} {self.id} with {len(self.body):,} bytes>"

    @property
    def query(self) -> dict[str, str]:
        """The parameters in the address; the last one of a name counts."""
        return dict(parse_qsl(urlsplit(self.url).query, keep_blank_values=True))

    @property
    def text(self) -> str:
        """The body as UTF-8; what is none is replaced."""
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:  # noqa: ANN401 - whatever the sender sent
        """Return the body as JSON.

        Raises:
            HookRejected: it is not JSON.
        """
        return read_json(self.body)

    async def respond(
        self,
        status: int = 200,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | str | None = None,
        json: Any = UNSET,  # noqa: ANN401 - what JSON can hold
    ) -> bool:
        """Answer the caller that is held; return whether this answer counts: the first one does.

        Call it in a workflow body or a step; the answer is durable, also for a caller that comes
        back with its `webhook-id`.

        Raises:
            NotInRun: the caller of this is in neither. InvalidOption: the webhook does not hold
            its callers (`respond_with="manual"` makes it), or the answer could not be sent.
        """
        response = Response(status, headers, body, json=json)
        if not self.held:
            raise InvalidOption("respond_with", None, "'manual' where requests are answered")
        if current_body() is not None:
            return await _respond(self.run, self.hook, self.id, response)
        if step_context.get() is None:
            raise NotInRun("request.respond()", "a workflow or step")
        return await _answer(self.run, self.hook, self.id, response)


async def _answer(run: str, hook: str, caller: str, response: Response) -> bool:
    context = step_context.get()
    if context is None:
        raise NotInRun("request.respond()", "a workflow or step")
    client: Client = context.services.client
    return await client.webhooks.answer(run, hook, caller, response)


@step(name="offbook.respond")
async def _respond(run: str, hook: str, caller: str, response: Response) -> bool:
    return await _answer(run, hook, caller, response)


def read_json(body: bytes) -> Any:  # noqa: ANN401 - whatever the sender sent
    """Return a body as JSON, strictly: UTF-8, no NaN.

    Raises:
        HookRejected: it is not JSON.
    """
    try:
        return jsons.loads(body.decode(), parse_constant=_no_number)
    except RecursionError:
        raise HookRejected("the body nests too deep") from None
    except ValueError as error:
        raise HookRejected(f"the body is not JSON: {str(error)[:200]}") from None


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no JSON")
