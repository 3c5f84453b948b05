"""A real OTLP receiver: what it has been sent can be waited for."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from oteltap import OtelTapHttpProtobufReceiver, OtelTapHttpProtobufReceiverSettings

from support.servers import free_port

if TYPE_CHECKING:
    from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Receiver:
    """Everything that came in so far."""

    def __init__(self, port: int) -> None:
        self.endpoint = f"http://127.0.0.1:{port}"
        self.spans: list[Span] = []
        self._came = asyncio.Condition()

    async def take(self, tap: OtelTapHttpProtobufReceiver) -> None:
        async for span in tap.stream_traces():
            async with self._came:
                self.spans.append(span)
                self._came.notify_all()

    async def wait_for(self, name: str) -> None:
        async with self._came:
            await self._came.wait_for(lambda: any(span.name == name for span in self.spans))


@contextlib.asynccontextmanager
async def receiver() -> AsyncGenerator[Receiver]:
    settings = OtelTapHttpProtobufReceiverSettings(http_port=free_port())
    async with OtelTapHttpProtobufReceiver(settings) as tap:
        found = Receiver(settings.http_port)
        reading = asyncio.create_task(found.take(tap))
        await asyncio.sleep(0)
        try:
            yield found
        finally:
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reading
