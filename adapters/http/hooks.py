"""Requests to webhooks: who may send, what is taken, and what the caller is told."""

import secrets
from collections.abc import Collection

from offbook.actors.client import Client
from offbook.actors.errors import PayloadError
from offbook.actors.requests import Response, Sent
from offbook.actors.webhooks import Target

from .asgi import Incoming
from .calls import Call
from .guesses import Guesses
from .problems import Problem, wrong_method
from .runs import checked_id
from .signatures import Keys

ACCEPTED = 202
_TOKEN_LIMIT = 1024


class WebhookRoute:
    """The handler of webhooks.

    keys: secrets of those who sign. dropped: headers that are not kept. guesses: the budget of
    wrong tokens, or None.
    """

    def __init__(
        self, client: Client, keys: Keys, dropped: Collection[str], guesses: Guesses | None
    ) -> None:
        self._client = client
        self._keys = keys
        self._dropped = frozenset(name.lower() for name in dropped)
        self._guesses = guesses

    async def __call__(self, call: Call) -> Response:
        """Take a request to webhook/{token}.

        Raises:
            Problem: it is refused; nothing of it was kept.
        """
        self._check_guesses(call.incoming)
        token, caller = call.words[0], call.incoming.header("webhook-id")
        target = await self._find(token, caller)
        if target is None:
            return self._nothing(call.incoming)
        if call.incoming.method not in target.methods:
            raise wrong_method(target.methods)
        caller = checked_id(caller) or secrets.token_hex(8)
        body = await call.body()
        self._check_signature(target, call.incoming, body)
        sent = self._sent(call.incoming, token, caller, body)
        if not await self._client.webhooks.deliver(target, sent, token):
            return self._nothing(call.incoming)
        return await self._answer(call, target, caller)

    def _check_guesses(self, incoming: Incoming) -> None:
        wait = self._guesses.wait(incoming.source) if self._guesses is not None else 0
        if wait:
            detail = "too many addresses that lead nowhere came from yours"
            later = [("retry-after", str(wait))]
            raise Problem(429, "too-many-requests", detail, later, close=True)

    async def _find(self, token: str, caller: str | None) -> Target | None:
        if not 1 <= len(token) <= _TOKEN_LIMIT:
            return None
        target = await self._client.webhooks.find(token)
        if target is None or (target.record.spent and not target.repeats(caller)):
            return None
        return target

    def _nothing(self, incoming: Incoming) -> Response:
        """Answer alike for what never was, is spent, is no webhook, or has ended."""
        if self._guesses is not None:
            self._guesses.wrong(incoming.source)
        return Response(404)

    def _check_signature(self, target: Target, incoming: Incoming, body: bytes) -> None:
        if target.signed is None:
            return
        if not self._keys.knows(target.signed):
            facts = {"name": target.signed, "run": target.run}
            self._client.observer.log("error", "webhook_secret_missing", **facts)
            raise Problem(500, "secret-missing", "this edge cannot check the signature")
        now = self._client.backend.clock.now() / 1e6
        self._keys.check(target.signed, incoming, body, now)

    def _sent(self, incoming: Incoming, token: str, caller: str, body: bytes) -> Sent:
        headers: dict[str, str] = {}
        for name, value in incoming.headers:
            if name not in self._dropped:
                headers[name] = f"{headers[name]}, {value}" if name in headers else value
        # The token is stored nowhere, however it was spelled: see `Webhooks.deliver`.
        url = incoming.url if f"/{token}" in incoming.url else incoming.plain_url
        return {
            "id": caller,
            "method": incoming.method,
            "url": url,
            "headers": headers,
            "body": body,
        }

    async def _answer(self, call: Call, target: Target, caller: str) -> Response:
        if target.response is not None:
            return target.response
        if not target.held:
            return Response(ACCEPTED)
        seconds = min(target.wait, call.limits.longest_wait)
        waiting = self._client.webhooks.wait(target, caller)
        try:
            answer = await call.patiently(waiting, seconds, call.limits.grace)
        except TimeoutError:
            raise _late(leaving=call.leaving.now) from None
        except PayloadError as error:
            raise Problem(422, error.code, str(error)) from None
        if answer is None:
            detail = "the request was taken, and its run ended without an answer"
            raise Problem(502, "no-answer", detail)
        return answer


def _late(*, leaving: bool) -> Problem:
    detail = "the request was taken; come back with the same webhook-id for the answer"
    later = [("retry-after", "1")]
    if leaving:
        return Problem(503, "leaving", detail, later)
    return Problem(504, "no-answer", detail, later)
