"""A TCP proxy between one client and the server, which cuts, holds, loses and delays."""

import asyncio
import socket
import struct
from collections import deque
from dataclasses import dataclass
from typing import cast

_LOOPBACK = "127.0.0.1"
_RESET = struct.pack("ii", 1, 0)
_HIGH_WATER = 256 * 1024
_FRAME = 64

KINDS = ("cut", "half_open", "lost_up", "lost_down", "hold", "delay", "reset", "drip")
"""What a link can suffer.

cut: connections end, and new ones end at once. half_open: connections stand and are accepted, and
nothing passes. lost_up, lost_down: what the client, or the server, sends is lost, and the other
direction passes (`lost_down` lets a publish pass and loses its ack). hold: nothing passes, and all
of it arrives late. delay: each piece comes later. reset: a connection ends in mid-frame. drip:
each piece arrives byte by byte at its beginning.
"""

_LOSING = frozenset({"cut", "half_open", "lost_up", "lost_down"})


@dataclass(frozen=True, slots=True)
class Fault:
    """What a link suffers now. delay: seconds."""

    kind: str
    delay: float = 0.0


class Link:
    """One port that leads to the server, with at most one fault at a time."""

    def __init__(self, upstream: int) -> None:
        self._upstream = upstream
        self._server: asyncio.Server | None = None
        self._ends: set[_End] = set()
        self._dials: set[asyncio.Task[None]] = set()
        self.fault: Fault | None = None
        self.port = 0
        self.resets = 0

    @property
    def url(self) -> str:
        """Where the client connects to."""
        return f"nats://{_LOOPBACK}:{self.port}"

    async def open(self) -> None:
        """Listen on a free port."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _End(self, "up"), _LOOPBACK, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """End all connections and stop listening."""
        if self._server is not None:
            self._server.close()
        self._abort_all()
        for dial in tuple(self._dials):
            dial.cancel()
        await asyncio.gather(*self._dials, return_exceptions=True)

    def suffers(self) -> bool:
        """Return whether there is a fault now."""
        return self.fault is not None

    def suffer(self, fault: Fault) -> None:
        """Begin a fault; the one before ends."""
        self.heal()
        self.fault = fault
        if fault.kind == "cut":
            self._abort_all()
        if fault.kind == "hold":
            for end in self._ends:
                end.stall()

    def heal(self) -> None:
        """End the fault. Connections whose bytes were lost end too: TCP knows no holes."""
        fault, self.fault = self.fault, None
        if fault is None:
            return
        for end in tuple(self._ends):
            if fault.kind in _LOSING:
                end.abort()
            else:
                end.go_on()

    def _abort_all(self) -> None:
        for end in tuple(self._ends):
            end.abort()

    def add(self, end: "_End") -> None:
        """Take a new connection in."""
        self._ends.add(end)
        if end.direction == "up":
            dial = asyncio.ensure_future(self._dial(end))
            self._dials.add(dial)
            dial.add_done_callback(self._dials.discard)

    def remove(self, end: "_End") -> None:
        """Forget an ended connection."""
        self._ends.discard(end)

    async def _dial(self, client: "_End") -> None:
        """Connect to the server for a client, as far as the fault lets it."""
        kind = self.fault.kind if self.fault else ""
        if kind == "cut":
            client.abort()
        if kind in {"cut", "half_open"}:
            return
        loop = asyncio.get_running_loop()
        try:
            _, server = await loop.create_connection(
                lambda: _End(self, "down"), _LOOPBACK, self._upstream
            )
        except OSError:
            client.abort()
        else:
            client.join(server)


class _End(asyncio.Protocol):
    """One side of a connection; what it hears goes to its other side."""

    def __init__(self, link: Link, direction: str) -> None:
        self.direction = direction
        self._link = link
        self.transport: asyncio.Transport | None = None
        self.other: _End | None = None
        self.early: list[bytes] = []
        self._late: deque[tuple[float, bytes]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self.stalled = False
        self._gone = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=_HIGH_WATER)
        sock = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._link.add(self)

    def join(self, other: "_End") -> None:
        """Bind the two sides of a connection to each other."""
        if self._gone or other.gone:
            self.abort()
            other.abort()
            return
        self.other, other.other = other, self
        early, self.early = self.early, []
        for data in early:
            self.data_received(data)
        if other.early:
            held, other.early = other.early, []
            for data in held:
                other.data_received(data)

    @property
    def gone(self) -> bool:
        """Whether the connection has ended."""
        return self._gone

    def data_received(self, data: bytes) -> None:
        fault = self._link.fault
        kind = fault.kind if fault else ""
        if kind in {"half_open", f"lost_{self.direction}"}:
            return
        if self.other is None:
            self.early.append(data)
        elif kind == "reset" and self.direction == "up" and len(data) > _FRAME:
            self._link.resets += 1
            self._break(data[: len(data) // 2])
        elif kind == "hold":
            self._late.append((0.0, data))
            self.stall()
        elif (kind == "delay" and fault) or self._late:
            self._postpone(data, fault.delay if fault else 0.0)
        elif kind == "drip":
            self._drip(data)
        else:
            self.other.write(data)

    def write(self, data: bytes) -> None:
        """Send to this side's peer."""
        if self.transport is not None and not self._gone:
            self.transport.write(data)

    def _drip(self, data: bytes) -> None:
        other = self.other
        if other is not None:
            for n in range(min(len(data), _FRAME)):
                other.write(data[n : n + 1])
            other.write(data[_FRAME:])

    def _break(self, half: bytes) -> None:
        other = self.other
        if other is not None:
            other.write(half)
            other.abort()
        self.abort()

    def _postpone(self, data: bytes, delay: float) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + delay
        if self._late:
            due = max(due, self._late[-1][0])
        self._late.append((due, data))
        if self._timer is None:
            self._timer = loop.call_at(due, self._release)

    def _release(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        while self._late and self._late[0][0] <= loop.time() and not self.stalled:
            _, data = self._late.popleft()
            if self.other is not None:
                self.other.write(data)
        if self._late and not self.stalled:
            self._timer = loop.call_at(self._late[0][0], self._release)

    def stall(self) -> None:
        """Take nothing more from this side's peer: its writes fill up."""
        self.stalled = True
        if self.transport is not None and not self._gone:
            self.transport.pause_reading()

    def go_on(self) -> None:
        """Send what was held, and read again."""
        stalled, self.stalled = self.stalled, False
        if stalled and self.transport is not None and not self._gone:
            self.transport.resume_reading()
        if self._timer is None:
            self._release()
        if self.other is not None and self.other.gone:
            self.finish()

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        other = self.other
        if other is not None and other.transport is not None and not other.stalled:
            other.transport.resume_reading()

    def abort(self) -> None:
        """End with a reset."""
        transport = self.transport
        if transport is None or self._gone:
            return
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.fileno() >= 0:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._gone = True
        self._link.remove(self)
        if self._timer is not None:
            self._timer.cancel()
        if self.other is None:
            return
        fault = self._link.fault
        if fault is not None and fault.kind in {"half_open", "hold", f"lost_{self.direction}"}:
            # Its peer cannot know: what tells it would have to pass.
            return
        self.other.finish()

    def finish(self) -> None:
        """End in order, after what is still to be sent."""
        if self.transport is not None and not self._gone and not self._late:
            self.transport.close()
