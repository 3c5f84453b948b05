"""A worker's lease, renewed from a thread, so that a busy main loop does not lose it."""

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass

from offbook.actors.errors import InvalidOption, OffbookError
from offbook.actors.ports import Unsure

from .api import header_block, publish
from .link import Link
from .options import Target
from .rollcall import EVERY, LATE_SECONDS
from .streams import MARKER_SECONDS

logger = logging.getLogger("offbook")

DELETED = {"KV-Operation": "DEL", "Nats-TTL": f"{MARKER_SECONDS}s"}
"""Headers of what stands for a lease that was given up."""
_TICK_SECONDS = 0.5
_STILL_SECONDS = 10.0
"""A main loop that did not tick for this long has no right to a lease."""
_TRUST = 0.9
_RETRY_SECONDS = 0.1
_RENEW_SECONDS = 1.0
"""A long lease is renewed as often as one of three seconds: who misses a renewal is called."""


@dataclass(slots=True, frozen=True)
class Place:
    """The subject of a worker's lease, and the one on which it can be called."""

    lease: str
    here: str


class NatsLease:
    """`offbook.actors.ports.Lease`: a key with a time to live on its own connection.

    The server counts whole seconds, so its key lives `ttl` rounded up; `valid` holds for 0.9 of
    `ttl` from before the last acknowledged renewal was sent. Who is not connected when a renewal is
    missed counts as gone to the others, so `valid` ends then, until the next one is acknowledged.
    """

    def __init__(
        self,
        target: Target,
        place: Place,
        info: bytes,
        ttl: float,
        fault: Callable[[BaseException], None],
    ) -> None:
        if not 0 < ttl < math.inf:
            raise InvalidOption("lease", ttl, "seconds above zero")
        self._target = target
        self._subject = place.lease.encode()
        self._here = place.here
        self._info = info
        self._ttl = ttl
        self._each = min(ttl / 3, _RENEW_SECONDS)
        self._fault = fault
        self._headers = b""
        self._until = 0.0
        self._missed = 0.0
        self._refusal = ""
        self._lapses = 0
        self._trials: dict[asyncio.Future[int], float] = {}
        self._ticked = time.monotonic()
        self._ticker: asyncio.TimerHandle | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._stopping = threading.Event()
        self._first: Future[None] = Future()
        self._closed: Callable[[NatsLease], None] = _nothing

    @property
    def running(self) -> bool:
        """Whether the thread renews."""
        return self._thread is not None

    def lapses(self) -> int:
        """Return how often it had run out when a renewal was acknowledged."""
        return self._lapses

    def valid(self) -> bool:
        """Return whether it surely has not expired (monotonic clock, no I/O)."""
        return time.monotonic() < self._until

    def on_close(self, call: Callable[["NatsLease"], None]) -> None:
        """Call `call` once it is closed."""
        self._closed = call

    async def open(self) -> None:
        """Start the thread; return when the first renewal is acknowledged."""
        self._tick()
        self._thread = threading.Thread(target=self._run, name="offbook lease", daemon=True)
        self._thread.start()
        await asyncio.wrap_future(self._first)

    def _tick(self) -> None:
        self._ticked = time.monotonic()
        self._ticker = asyncio.get_running_loop().call_later(_TICK_SECONDS, self._tick)

    async def close(self) -> None:
        """Give it up, so that others need not wait for its end."""
        if self._ticker is not None:
            self._ticker.cancel()
            self._ticker = None
        thread, self._thread = self._thread, None
        self._until = 0.0
        if thread is None:
            return
        self._stopping.set()
        loop, stop = self._loop, self._stop
        if loop is not None and stop is not None:
            try:
                loop.call_soon_threadsafe(stop.set)
            except RuntimeError as error:
                # Its loop has ended by itself.
                logger.debug("the lease had ended: %s", error)
        await asyncio.to_thread(thread.join)
        self._until = 0.0
        self._closed(self)

    # In the thread

    def _run(self) -> None:
        try:
            asyncio.run(self._renew_always())
        except BaseException as error:  # noqa: BLE001  a thread has nobody to raise to
            if not self._first.done():
                self._first.set_exception(error)
            else:
                self._fault(error)

    async def _renew_always(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        if self._stopping.is_set():
            self._stop.set()
        link = Link(self._target)
        await link.open()
        link.on_break(self._broke)
        try:
            await self._attend(link)
            pause = 0.0
            while not await self._stopped_within(pause):
                pause = await self._renew(link)
            await self._stop_trying()
            await self._give_up(link)
        finally:
            await self._stop_trying()
            await link.close()
            if not self._first.done():
                self._first.set_exception(Unsure("the lease was closed before it was held"))

    def _broke(self) -> None:
        """Trust the lease no longer than the others do, who may remove it from then on."""
        self._until = min(self._until, max(self._missed, time.monotonic()))

    async def _attend(self, link: Link) -> None:
        """Listen where the others call, and say so in the lease where that is allowed."""
        headers = {"Nats-TTL": f"{math.ceil(self._ttl)}s"}
        link.listen(self._here, _unheard)
        with suppress(Unsure):
            await link.flush()
            if not link.denials:
                headers[EVERY] = f"{self._each:.3f}"
        self._headers = header_block(headers)

    async def _stopped_within(self, seconds: float) -> bool:
        stop = self._stop
        if stop is None or stop.is_set():
            return True
        try:
            async with asyncio.timeout(seconds):
                await stop.wait()
        except TimeoutError:
            return False
        return True

    async def _renew(self, link: Link) -> float:
        """Renew once; return the seconds until the next time."""
        if time.monotonic() - self._ticked > _STILL_SECONDS:
            return _RETRY_SECONDS
        trial = asyncio.ensure_future(publish(link, self._subject, self._info, self._headers))
        self._trials[trial] = time.monotonic()
        # An answer that was lost must not cost the lease: it is tried again beside the others.
        wait = asyncio.FIRST_COMPLETED
        done, _ = await asyncio.wait(self._trials, timeout=self._each, return_when=wait)
        if not done:
            return 0.0
        good = [self._renewed(self._trials.pop(trial), trial) for trial in done]
        return self._each if any(good) or self._refusal else min(_RETRY_SECONDS, self._each)

    def _renewed(self, sent: float, trial: "asyncio.Future[int]") -> bool:
        """Take the outcome of one try; return whether the lease holds by it."""
        try:
            trial.result()
        except OffbookError as error:
            self._not_renewed(error)
            return False
        self._refusal = ""
        until = sent + _TRUST * self._ttl
        if until <= time.monotonic():
            return False
        if self._until and not self.valid():
            self._lapses += 1
        self._until = max(self._until, until)
        self._missed = max(self._missed, sent + self._each + LATE_SECONDS)
        if not self._first.done():
            self._first.set_result(None)
        return True

    def _not_renewed(self, error: OffbookError) -> None:
        """Note why a try failed. What is refused may be allowed again, so it is tried on.

        Raises:
            OffbookError: the first try was refused.
        """
        if isinstance(error, Unsure):
            logger.debug("the lease was not renewed: %s", error)
            return
        if not self._first.done():
            raise error
        if self._refusal != str(error):
            logger.error("the lease was not renewed: %s", error)
        self._refusal = str(error)

    async def _stop_trying(self) -> None:
        trials = [*self._trials]
        self._trials.clear()
        for trial in trials:
            trial.cancel()
        await asyncio.gather(*trials, return_exceptions=True)

    async def _give_up(self, link: Link) -> None:
        try:
            await publish(link, self._subject, b"", header_block(DELETED))
        except OffbookError as error:
            logger.debug("the lease will end by itself: %s", error)


def _nothing(_lease: NatsLease) -> None:
    return


def _unheard(_subject: bytes, _reply: bytes, _headers: bytes, _data: bytes) -> None:
    return
