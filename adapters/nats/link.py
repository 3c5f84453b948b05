"""The connection: requests with deadlines, plain sends, subscriptions. Nothing is buffered."""

import asyncio
import logging
import re
from collections.abc import Callable
from contextlib import suppress
from time import monotonic, time_ns
from typing import Any

from nats import errors

from offbook.actors.errors import (
    PayloadTooLarge,
    PermissionMissing,
    ServerRefused,
    ServerUnavailable,
    ServerUnfit,
)
from offbook.actors.ports import Unsure
from offbook.actors.server_clock import ServerClock

from .options import Target
from .wire import Handler, Plaintext, Wire, failed

logger = logging.getLogger("offbook")

Reply = tuple[bytes, bytes]
"""Headers and data of an answer."""

NO_RESPONDERS = b"NATS/1.0 503"
# Untyped: nats-py says that a wait is a whole number of seconds, and takes any.
_PATIENCE: dict[str, Any] = {
    "max_reconnect_attempts": -1,
    "reconnect_time_wait": 0.05,
    "connect_timeout": 1,
    "ping_interval": 2,
    "max_outstanding_pings": 2,
    "pending_size": 0,
}
_CANCEL_SECONDS = 0.1
_SWEEP_SECONDS = 0.25
_FAULTS_MAX = 100
_DENIED = re.compile(r"permissions violation for (publish|subscription) to \"([^\"]*)\"")
_AUTHORIZATION = ("authorization violation", "authentication", "maximum connections")


_Collecting = tuple[Handler, bytes, Callable[[Exception], None]]


class Listener:
    """A subscription. `stop` may be called twice."""

    def __init__(self, wire: Wire, sid: int) -> None:
        self._wire = wire
        self._sid = sid

    def stop(self) -> None:
        """Receive no more, at once."""
        self._wire.unlisten(self._sid)
        self._wire.forget(self._sid)

    def retire(self) -> None:
        """Ask the server for no more; what is under way is still handled."""
        wire = self._wire
        wire.unlisten(self._sid)
        if not wire.usable:
            wire.forget(self._sid)
            return
        wire.ping().add_done_callback(self._retired)

    def _retired(self, pinged: asyncio.Future[bool]) -> None:
        if not pinged.cancelled():
            pinged.exception()
        self._wire.forget(self._sid)


class Link:
    """One connection with its own request inbox.

    Requests that wait when the connection breaks fail with Unsure at once, those without an
    answer fail with it at their deadline. While disconnected a request fails and a send is
    dropped. `faults` keeps the last exceptions that came from handlers.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self.faults: list[BaseException] = []
        self.denials: dict[str, None] = {}
        self.clock = ServerClock(lambda: time_ns() // 1000, monotonic)
        self.breaks = 0
        self._wire: Wire | None = None
        self._pending: dict[bytes, tuple[asyncio.Future[Reply], float, bytes]] = {}
        self._collecting: dict[bytes, _Collecting] = {}
        self._count = 0
        self._inbox = b""
        self._seconds = target.options.request_seconds
        self.patience: float | None = None
        """Seconds after which `insist` asks again; None, where there is one server: never."""
        self._reconnected: dict[object, Callable[[], None]] = {}
        self._lost: dict[object, Callable[[], None]] = {}
        self._led: dict[object, tuple[str, Callable[[], None]]] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._refusal: asyncio.Future[None] | None = None
        self._cause = ""

    @property
    def wire(self) -> Wire:
        """The client below. Raises Unsure before `open` and after `close`."""
        if self._wire is None:
            raise Unsure("the connection is not open")
        return self._wire

    @property
    def connected(self) -> bool:
        """Whether a send reaches the server now."""
        return self._wire is not None and self._wire.usable

    @property
    def info(self) -> dict[str, Any]:
        """What the server said of itself."""
        return self.wire.info

    @property
    def url(self) -> str:
        """The server that we talk to, or an empty text."""
        found = self.wire.connected_url
        return found.geturl() if found is not None else ""

    @property
    def max_payload(self) -> int:
        """The most bytes of headers and data that the server takes in a message."""
        return self.wire.max_payload

    # Opening and closing

    async def open(self) -> None:
        """Connect.

        Raises:
            ServerUnavailable: no server answered within `open_seconds`.
            ServerRefused: the credentials are wrong. PermissionMissing: no answer may come.
            ServerUnfit: TLS was asked for and the server has none.
        """
        self._loop = asyncio.get_running_loop()
        self._refusal = self._loop.create_future()
        wire = self._wire = Wire(
            tls_wanted=self.target.tls,
            broken=self._fail_pending,
            denied=self._deny,
            fault=self.fault,
        )
        try:
            await self._connect(wire)
        except BaseException:
            await wire.shut()
            self._wire = None
            raise
        self._listen_for_answers(wire)
        try:
            await self._check_answers(wire)
        except BaseException:
            await self.close()
            raise

    async def _check_answers(self, wire: Wire) -> None:
        """Make sure that answers may come: without them all requests would be in vain."""
        with suppress(errors.Error, TimeoutError):  # whoever asks next finds out
            async with asyncio.timeout(self._seconds):
                await wire.ping()
        inbox = f"{self._inbox.decode()}*"
        for message in self.denials:
            found = _DENIED.search(message)
            if found is not None and found[2] == inbox.lower():
                raise self._missing("listen to", inbox, message)

    async def _connect(self, wire: Wire) -> None:
        connecting = asyncio.create_task(self._dial(wire), name="offbook nats connect")
        refusal = self._refusal or self._loop.create_future()
        seconds = self.target.options.open_seconds
        try:
            await asyncio.wait(
                {connecting, refusal}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
            )
            if refusal.done():
                refusal.result()
            if not connecting.done():
                raise ServerUnavailable(f"connecting to {self._addresses()}", self._cause)
            connecting.result()
        finally:
            self._refusal = None
            while not connecting.done():
                # nats-py may lose a cancel between two of its attempts.
                connecting.cancel()
                await asyncio.wait({connecting}, timeout=_CANCEL_SECONDS)

    async def _dial(self, wire: Wire) -> None:
        await wire.connect(
            **self.target.arguments(),
            error_cb=self._on_error,
            disconnected_cb=self._on_disconnect,
            reconnected_cb=self._on_reconnect,
            **_PATIENCE,
        )

    def _listen_for_answers(self, wire: Wire) -> None:
        inbox = wire.new_inbox()
        self._inbox = f"{inbox}.".encode()
        wire.listen(f"{inbox}.*", self._answered)

    async def close(self) -> None:
        """Close; requests that still wait fail with Unsure."""
        wire, self._wire = self._wire, None
        if wire is None:
            return
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        self._reconnected.clear()
        await wire.shut()
        self._fail_pending("the connection was closed")

    def _addresses(self) -> str:
        return ", ".join(self.target.servers)

    # Requests and sends

    def ask(
        self, subject: bytes, data: bytes, headers: bytes = b"", seconds: float | None = None
    ) -> asyncio.Future[Reply]:
        """Send a request; await the answer.

        Raises:
            Unsure: not connected; from the future: the connection broke, or the time ran out.
            PayloadTooLarge: the message is above the server's limit; nothing was sent.
            PermissionMissing: from the future: the permissions do not allow the subject.
        """
        wire = self._wire
        if wire is None or not wire.usable:
            raise Unsure("not connected")
        size = len(headers) + len(data)
        if size > wire.max_payload:
            raise PayloadTooLarge(subject.decode(), size, wire.max_payload)
        self._count += 1
        token = b"%d" % self._count
        future = self._loop.create_future()
        deadline = self._loop.time() + (self._seconds if seconds is None else seconds)
        self._pending[token] = (future, deadline, subject)
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(_SWEEP_SECONDS, self._sweep)
        wire.put(_frame(subject, self._inbox + token, headers, data))
        return future

    async def insist(self, subject: bytes, data: bytes) -> Reply:
        """Ask what may be asked twice: again after each `patience`, and after an election.

        A server that dies takes with it what it was asked; of several, another answers. The first
        answer counts. Raises as `ask`.
        """
        if self.patience is None:
            return await self.ask(subject, data)
        asked: list[asyncio.Future[Reply]] = []
        end, breaks = self._loop.time() + self._seconds, self.breaks
        try:
            while True:
                asked.append(self.ask(subject, data, seconds=end - self._loop.time()))
                await asyncio.wait(
                    asked, timeout=self.patience, return_when=asyncio.FIRST_COMPLETED
                )
                hopeless = self._loop.time() >= end or breaks != self.breaks
                for one in [one for one in asked if one.done()]:
                    error = one.exception()
                    if error is None or hopeless or not isinstance(error, Unsure):
                        return one.result()
                    asked.remove(one)
        finally:
            for one in asked:
                one.cancel()

    def send(self, subject: bytes, data: bytes, headers: bytes = b"", reply: bytes = b"") -> bool:
        """Send without an answer; return False where it was dropped for want of a connection."""
        wire = self._wire
        if wire is None or not wire.usable:
            return False
        size = len(headers) + len(data)
        if size > wire.max_payload:
            raise PayloadTooLarge(subject.decode(), size, wire.max_payload)
        wire.put(_frame(subject, reply, headers, data))
        return True

    def tell(self, subject: bytes, data: bytes) -> None:
        """Send without headers and without an answer; dropped while disconnected."""
        wire = self._wire
        if wire is not None and wire.usable:
            wire.put(b"PUB %b  %d\r\n%b\r\n" % (subject, len(data), data))

    def collect(
        self, handler: Handler, subject: bytes, denied: Callable[[Exception], None]
    ) -> tuple[bytes, Callable[[], None]]:
        """Call `handler` for each answer to a reply subject; return it, and the way to stop.

        The subscription for answers takes them: the server is told nothing. `denied` is called
        where the permissions do not allow the subject that is asked.
        """
        self._count += 1
        token = b"%d" % self._count
        self._collecting[token] = handler, subject, denied
        return self._inbox + token, lambda: self._collecting.pop(token, None) and None

    def listen(self, subject: str, handler: Handler) -> Listener:
        """Call `handler` for each message, within the read loop; also after reconnects."""
        return Listener(self.wire, self.wire.listen(subject, handler))

    def inbox(self) -> str:
        """Return a new subject that nobody else uses."""
        return self.wire.new_inbox()

    async def flush(self) -> float:
        """Return when the server has read all that was sent, with the seconds that it took.

        Raises:
            Unsure: the connection broke or the time ran out.
        """
        wire = self._wire
        if wire is None or not wire.usable:
            raise Unsure("not connected")
        start = self._loop.time()
        try:
            async with asyncio.timeout(self._seconds):
                await wire.ping()
        except TimeoutError:
            raise Unsure("no answer in time") from None
        except errors.Error as error:
            raise Unsure(str(error)) from error
        return self._loop.time() - start

    def on_reconnect(self, call: Callable[[], None]) -> Callable[[], None]:
        """Call `call` after each reconnect; return the way to stop it."""
        key = object()
        self._reconnected[key] = call
        return lambda: self._reconnected.pop(key, None) and None

    def on_break(self, call: Callable[[], None]) -> Callable[[], None]:
        """Call `call` when the connection is lost or closed; return the way to stop it."""
        key = object()
        self._lost[key] = call
        return lambda: self._lost.pop(key, None) and None

    def on_election(self, consumer: str, call: Callable[[], None]) -> Callable[[], None]:
        """Call `call` when a consumer, `stream.name`, has a new leader; return the way to stop."""
        key = object()
        self._led[key] = consumer, call
        return lambda: self._led.pop(key, None) and None

    def elected(self, consumer: str) -> None:
        """Tell those who read from a consumer that it has a new leader."""
        for name, call in tuple(self._led.values()):
            if name == consumer:
                call()

    def give_up(self, asked: Callable[[bytes], bool], reason: str) -> None:
        """Have requests to such subjects fail with Unsure now: nobody will answer them."""
        for token, (_, _, subject) in tuple(self._pending.items()):
            if asked(subject):
                self._fail(token, Unsure(reason))

    def fault(self, error: BaseException) -> None:
        """Keep an exception that has no caller, and say it aloud."""
        del self.faults[: -(_FAULTS_MAX - 1)]
        self.faults.append(error)
        logger.error("an exception in the connection's own work", exc_info=error)

    # What the wire calls

    def _answered(self, subject: bytes, reply: bytes, headers: bytes, data: bytes) -> None:
        token = subject[len(self._inbox) :]
        waiting = self._pending.pop(token, None)
        if waiting is None:
            collecting = self._collecting.get(token)
            if collecting is not None:
                collecting[0](subject, reply, headers, data)
        elif not waiting[0].done():
            waiting[0].set_result((headers, data))

    def _sweep(self) -> None:
        now = self._loop.time()
        late = [token for token, waiting in self._pending.items() if waiting[1] < now]
        for token in late:
            self._fail(token, Unsure("no answer in time"))
        again = self._pending and self._wire is not None
        self._sweeper = self._loop.call_later(_SWEEP_SECONDS, self._sweep) if again else None

    def _fail(self, token: bytes, error: Exception) -> None:
        future, _, _ = self._pending.pop(token)
        if not future.done():
            failed(future, error)

    def _fail_pending(self, reason: str) -> None:
        self.breaks += 1
        for token in tuple(self._pending):
            self._fail(token, Unsure(f"the connection broke ({reason})"))
        for call in tuple(self._lost.values()):
            call()

    def _deny(self, message: str) -> None:
        logger.error("the server denies a permission: %s", message)
        found = _DENIED.search(message)
        self.denials[message] = None
        if found is None or found[1] != "publish":
            return
        # The parser of nats-py lowers the case of errors.
        subject = found[2].encode()
        for token, waiting in tuple(self._pending.items()):
            if waiting[2].lower() == subject:
                self._fail(token, self._missing("publish to", waiting[2].decode(), message))
        for _, asked, denied in tuple(self._collecting.values()):
            if asked.lower() == subject:
                denied(self._missing("publish to", asked.decode(), message))

    def _missing(self, what: str, subject: str, reason: str) -> PermissionMissing:
        options = self.target.options
        return PermissionMissing(what, reason, subject, options.role or options.user or "")

    async def _on_error(self, error: Exception) -> None:
        self._cause = str(error) or type(error).__name__
        refusal = self._refusal
        if refusal is None or refusal.done():
            logger.debug("nats: %s", self._cause)
            return
        if isinstance(error, Plaintext):
            refusal.set_exception(ServerUnfit("tls", "off", "TLS: it was asked for"))
        elif any(sign in self._cause.lower() for sign in _AUTHORIZATION):
            refusal.set_exception(ServerRefused(self.target.options.credential, self._cause))

    async def _on_disconnect(self) -> None:
        if self._wire is not None:
            logger.warning("lost the server, connecting again (%s)", self._addresses())

    async def _on_reconnect(self) -> None:
        if self._wire is None:
            return  # closed while it connected again
        logger.info("connected again to %s", self.url)
        for call in tuple(self._reconnected.values()):
            try:
                call()
            except Exception as error:  # noqa: BLE001  one of them must not stop the others
                self.fault(error)


def _frame(subject: bytes, reply: bytes, headers: bytes, data: bytes) -> bytes:
    if headers:
        size = len(headers)
        return b"HPUB %b %b %d %d\r\n%b%b\r\n" % (
            subject,
            reply,
            size,
            size + len(data),
            headers,
            data,
        )
    return b"PUB %b %b %d\r\n%b\r\n" % (subject, reply, len(data), data)
