"""The nats-py client with the parts replaced that cost time or lose messages.

It reaches into private parts of nats-py on purpose, and only here: the public ones queue what is
written while disconnected, hand every message to a task of its own, and close for good when the
server sends an error that a reconnect would cure.
"""

# pyright: reportPrivateUsage=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# The reason: see above; nats-py is typed in part only.

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from nats import errors
from nats.aio.client import Client, Srv
from nats.aio.subscription import Subscription
from nats.aio.transport import TcpTransport, Transport

from .incoming import Incoming

Handler = Callable[[bytes, bytes, bytes, bytes], None]
"""Called with subject, reply, headers and data of a message, within the read loop."""

_RETRY_SECONDS = 0.2
_CANCEL_SECONDS = 0.1
_GOODBYE_SECONDS = 3.0
"""How long a close may take before the connection is broken off.

asyncio may never tell of the end of one whose TLS handshake the server refused late.
"""


class Plaintext(errors.Error):
    """TLS was asked for and the server does not offer it."""


class Wire(Client):
    """One connection: messages go to synchronous handlers, writes join once per loop turn."""

    def __init__(
        self,
        *,
        tls_wanted: bool,
        broken: Callable[[str], None],
        denied: Callable[[str], None],
        fault: Callable[[BaseException], None],
    ) -> None:
        super().__init__()
        self._tls_wanted = tls_wanted
        self._broken = broken
        self._denied = denied
        self._fault = fault
        self._handlers: dict[int, Handler] = {}
        self._out: list[bytes] = []
        self._turn = False
        self._flushes: set[asyncio.Future[bool]] = set()
        self._loop = asyncio.get_running_loop()

    @property
    def info(self) -> dict[str, Any]:
        """What the server said of itself."""
        return self._server_info

    @property
    def usable(self) -> bool:
        """Whether what is written now reaches a server."""
        return self._status == Client.CONNECTED

    def put(self, frame: bytes) -> None:
        """Write a frame: the first one of a loop turn at once, the others joined at its end."""
        if self._turn:
            self._out.append(frame)
            return
        self._turn = True
        self._loop.call_soon(self._end_turn)
        self._write(frame)

    def _end_turn(self) -> None:
        self._turn = False
        self._write_out()

    def _write_out(self) -> None:
        if self._out and self.usable:
            self._write(b"".join(self._out))
        self._out.clear()

    def _write(self, data: bytes) -> None:
        transport = self._transport
        # Where the connection has ended and the read loop has not been told yet, asyncio warns of
        # each write and uvloop refuses it: what waits for an answer fails with the rest.
        if transport is None or _has_ended(transport):
            return
        with suppress(RuntimeError):
            transport.write(data)

    def ping(self) -> asyncio.Future[bool]:
        """Return what is done when the server has read all that was written before."""
        future: asyncio.Future[bool] = self._loop.create_future()
        self._pongs.append(future)
        self._flushes.add(future)
        future.add_done_callback(self._flushes.discard)
        self._write_out()
        self._write(b"PING\r\n")
        return future

    def listen(self, subject: str, handler: Handler) -> int:
        """Subscribe with a synchronous handler; return the number to stop it with."""
        self._sid += 1
        sid = self._sid
        self._handlers[sid] = handler
        # Kept among the client's own, so that it is subscribed again after a reconnect.
        self._subs[sid] = Subscription(self, sid, subject)
        if self.usable:
            self.put(f"SUB {subject}  {sid}\r\n".encode())
        return sid

    def unlisten(self, sid: int) -> None:
        """Tell the server to send no more; what is under way still reaches the handler."""
        if self._subs.pop(sid, None) is not None and self.usable:
            self.put(f"UNSUB {sid} \r\n".encode())

    def forget(self, sid: int) -> None:
        """Drop the handler of a stopped subscription."""
        self._handlers.pop(sid, None)

    async def shut(self) -> None:
        """Close, and wait for the tasks that the client leaves behind."""
        tasks: list[asyncio.Task[Any] | None] = [
            self._reading_task,
            self._flusher_task,
            self._ping_interval_task,
            self._reconnection_task,
        ]
        try:
            await self._close_once()
            await _ended(*tasks)
            # A reconnect that went on for a moment has left some of its own.
            tasks = [self._reading_task, self._flusher_task, self._ping_interval_task]
            await _ended(*tasks)
        finally:
            self._hang_up()

    async def _close_once(self) -> None:
        try:
            async with asyncio.timeout(_GOODBYE_SECONDS):
                await self.close()
        except TimeoutError:
            pass  # it is hung up
        except asyncio.CancelledError:
            # A cancelled reconnect leaves a cancelled future for whoever closes after it.
            if _being_cancelled():
                raise

    async def _connect_to_server(self, s: Srv) -> None:
        # nats-py drops the connection whose handshake failed, and closes none that it drops.
        self._hang_up()
        await super()._connect_to_server(s)

    def _hang_up(self) -> None:
        transport = self._transport
        if isinstance(transport, TcpTransport):
            for writer in (transport._io_writer, transport._bare_io_writer):  # noqa: SLF001
                if writer is not None:
                    writer.transport.abort()

    async def _read_loop(self) -> None:
        transport = self._transport
        if isinstance(transport, TcpTransport) and transport._io_reader is not None:  # noqa: SLF001
            fast = Incoming(self._ps, transport._io_reader, self._handle)  # noqa: SLF001
            # Set on the one object: its class is asyncio's, and so is what calls it.
            vars(transport._io_reader)["feed_data"] = fast.feed  # noqa: SLF001
        await super()._read_loop()

    async def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None
    ) -> None:
        self._handle(sid, subject, reply, headers or b"", data)

    def _handle(self, sid: int, subject: bytes, reply: bytes, headers: bytes, data: bytes) -> None:
        handler = self._handlers.get(sid)
        if handler is None:
            return
        try:
            handler(subject, reply, headers, data)
        except Exception as error:  # noqa: BLE001  one message must not stop the read loop
            self._fault(error)

    async def _process_pong(self) -> None:
        self._pings_outstanding = 0
        self._pongs_received += 1
        if self._pongs:
            future = self._pongs.pop(0)
            # The base class sets a cancelled future too, and its read loop dies of that.
            if not future.done():
                future.set_result(True)

    async def _process_err(self, err_msg: str) -> None:
        # The base class closes for good on all but two errors: reconnect instead.
        if "permissions violation" in err_msg:
            self._denied(err_msg)
            return
        await self._process_op_err(errors.Error(f"nats: {err_msg}"))

    async def _process_op_err(self, e: Exception) -> None:
        await super()._process_op_err(e)
        if not self.usable:
            self._drop(str(e) or type(e).__name__)

    def _drop(self, reason: str) -> None:
        # What nats-py queued for the lost connection must not go out on the next one.
        self._pending.clear()
        self._pending_data_size = 0
        self._out.clear()
        for future in tuple(self._flushes):
            if not future.done():
                failed(future, errors.StaleConnectionError())
        self._broken(reason)

    async def _attempt_reconnect(self) -> None:
        while True:
            try:
                await super()._attempt_reconnect()
            except asyncio.CancelledError:
                if self.is_closed or _being_cancelled():
                    raise
            except Exception as error:  # noqa: BLE001  anything else would end reconnecting
                self._fault(error)
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                return

    def _connect_command(self) -> bytes:
        # Checked before credentials leave in plain text: nats-py takes what the server offers.
        if self._tls_wanted and not self._server_info.get("tls_required"):
            raise Plaintext
        return super()._connect_command()


def _has_ended(transport: Transport) -> bool:
    writer = transport._io_writer if isinstance(transport, TcpTransport) else None  # noqa: SLF001
    return writer is not None and writer.is_closing()


def _being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _ended(*tasks: "asyncio.Task[Any] | None") -> None:
    """Wait for tasks that were cancelled; nats-py may lose a cancel between two attempts."""
    for task in tasks:
        while task is not None and not task.done():
            await asyncio.wait({task}, timeout=_CANCEL_SECONDS)
            task.cancel()


def failed(future: "asyncio.Future[Any]", error: BaseException) -> None:
    """End a future with an error; nobody is told where whoever waited was cancelled just now."""
    future.set_exception(error)
    future.exception()
