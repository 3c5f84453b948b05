"""What an HTTP edge asks of a client: whose address it is, to deliver, to wait for an answer."""

import asyncio
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .accepting import Sent as Payload
from .errors import HookRejected, RunExpired, RunTerminated
from .machine_webhooks import MANUAL
from .model import decode_record, may_end, pack, unpack, unpack_map
from .names import token_key
from .ports import Grown, Refused
from .reading import POLL, Growth, Reading
from .requests import TOKEN_MARK, Response, Sent, read_json
from .state import state_of
from .tokens import TokenRecord, answer_key, has_ended
from .turn import payload_key

if TYPE_CHECKING:
    from .client import Client

_REJECTED = b"hook_rejected"


@dataclass(frozen=True, slots=True)
class Target:
    """A webhook, as its address names it. `spent`: it takes nothing that is new."""

    key: str
    record: TokenRecord
    methods: tuple[str, ...]
    signed: str | None
    response: Response | None
    held: bool
    wait: float
    json: bool

    @property
    def run(self) -> str:
        """The run that gets its requests."""
        return self.record.run

    def repeats(self, caller: str | None) -> bool:
        """Return whether a spent webhook has had this caller's request."""
        return caller is not None and caller in self.record.accepted


def _target(key: str, record: TokenRecord | None) -> Target | None:
    if record is None or record.web is None:
        return None
    web, respond = record.web, record.web.get("respond")
    fixed = _fixed(respond)
    try:
        return Target(
            key=key,
            record=record,
            methods=tuple(web["methods"]),
            signed=web["signed"],
            response=None if fixed is None else Response(*fixed),
            held=respond == MANUAL,
            wait=float(web["wait"]),
            json=bool(web["json"]),
        )
    except (KeyError, TypeError, ValueError):
        return None


def _fixed(respond: Any) -> Any:  # noqa: ANN401 - plain data
    return respond if isinstance(respond, list) else None  # pyright: ignore[reportUnknownVariableType] - plain data


class Webhooks:
    """The webhooks of a namespace, for edges."""

    def __init__(self, client: "Client", log: Reading) -> None:
        self._client = client
        self._log = log

    async def find(self, token: str) -> Target | None:
        """Return the webhook of a token; None for a plain hook's, and where there is none.

        Raises:
            ServerUnavailable: nobody answers.
        """
        key = token_key(token)
        hooks = self._client.backend.hooks
        entry = await self._log.again(lambda: hooks.get(key), "reading a hook")
        return _target(key, None if entry is None else TokenRecord.read(entry.value))

    def check(self, target: Target, body: bytes) -> None:
        """Check a body against the webhook's type, without its code.

        Raises:
            PayloadError: it does not fit.
        """
        if target.json:
            self._client.codec.check_json(target.record.schema, read_json(body))

    async def deliver(self, target: Target, sent: Sent, token: str) -> bool:
        """Send a request to the run; False where the webhook takes no more.

        Returns once it cannot be lost. `sent["id"]` makes sending it again safe.

        Raises:
            PayloadError: the body does not fit. ServerUnavailable: nobody answers.
        """
        client, record, caller = self._client, target.record, sent["id"]
        if not record.spent:
            self.check(target, sent["body"])
        if not record.spent and await self._log.again(
            lambda: has_ended(client.backend, record.run), "reading a run"
        ):
            return await self._had(target, caller)
        marked: Sent = {**sent, "url": sent["url"].replace(token, TOKEN_MARK, 1)}
        data = client.codec.encode(marked, "request")
        payload = Payload(record.run, record.hook, target.key, caller)
        return await client.deliver(record, payload, data)

    async def _had(self, target: Target, caller: str) -> bool:
        """Return whether a run that is over has had a request."""
        with suppress(RunExpired, RunTerminated):
            history = await self._log.history(target.run)
            return payload_key(target.key, caller) in state_of(history).seen
        return False

    # Answers to callers that are held

    async def answer(self, run: str, hook: str, caller: str, response: Response) -> bool:
        """Keep an answer and tell who waits for it; return whether it is the one that counts."""
        client = self._client
        key = answer_key(run, hook, caller)
        plain = pack([response.status, response.headers, response.body])
        data = pack({"answer": await client.blobs.offload(run, plain)})
        hooks = client.backend.hooks
        while True:
            try:
                await self._log.again(lambda: hooks.create(key, data), "answering a request")
            except Refused:
                entry = await self._log.again(lambda: hooks.get(key), "answering a request")
                if entry is None:
                    continue
                return entry.value == data
            await client.backend.signals.say(_topic(key), b"")
            return True

    async def answer_of(self, target: Target, caller: str) -> Response | None:
        """Return the answer to a request, if there is one."""
        client = self._client
        key = answer_key(target.run, target.record.hook, caller)
        hooks = client.backend.hooks
        entry = await self._log.again(lambda: hooks.get(key), "reading an answer")
        if entry is None:
            return None
        try:
            kept = unpack_map(entry.value)["answer"]
            status, headers, body = unpack(await self._log.resolve(target.run, kept))
        except (ValueError, KeyError, TypeError):
            return None
        return Response(status, headers, body)

    async def wait(self, target: Target, caller: str) -> Response | None:
        """Wait for the answer to a request; None where the run has ended without one.

        Raises:
            HookRejected: the run refuses the request.
        """
        client = self._client
        heard = asyncio.Event()
        key = answer_key(target.run, target.record.hook, caller)
        signals = client.backend.signals
        async with AsyncExitStack() as stack:
            stop = await self._log.again(
                lambda: signals.listen(_topic(key), lambda _data: heard.set()), "waiting"
            )
            stack.callback(stop)
            grown = await stack.enter_async_context(self._log.listening(target.run, _matters))
            while True:
                found = await self._now(target, caller)
                if found is not None:
                    return found[0]
                await _first(heard, grown, target.record.hook, caller)

    async def _now(self, target: Target, caller: str) -> tuple[Response | None] | None:
        """Return the answer, in a tuple; None in it after the end, and no tuple before."""
        client = self._client
        found = await self.answer_of(target, caller)
        if found is not None:
            return (found,)
        if not await self._log.again(
            lambda: has_ended(client.backend, target.run), "reading a run"
        ):
            return None
        return (await self.answer_of(target, caller),)


def _topic(key: str) -> str:
    return f"answered.{key}"


def _matters(grown: Grown) -> bool:
    return _REJECTED in grown.data or may_end(grown.data)


async def _first(heard: asyncio.Event, grown: Growth, hook: str, caller: str) -> None:
    """Wait for a sign that there may be an answer.

    Raises:
        HookRejected: the run refuses the request.
    """
    growth = asyncio.ensure_future(grown(POLL))
    signs = (asyncio.ensure_future(heard.wait()), growth)
    try:
        await asyncio.wait(signs, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for sign in signs:
            sign.cancel()
    heard.clear()
    found = growth.result() if growth.done() and not growth.cancelled() else None
    if found is not None and _REJECTED in found.data:
        _look_for_refusal(found.data, hook, caller)


def _look_for_refusal(data: bytes, hook: str, caller: str) -> None:
    try:
        events = decode_record(data).events
    except ValueError:
        return
    for event in events:
        facts = event.data
        if event.kind == "hook_rejected" and (event.id, facts["caller"]) == (hook, caller):
            raise HookRejected(str(facts["reason"]))
