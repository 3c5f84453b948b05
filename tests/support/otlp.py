"""A real OTLP receiver: what it has been sent can be waited for."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING

from oteltap import OtelTapHttpProtobufReceiver, OtelTapHttpProtobufReceiverSettings

from support.servers import free_port

if TYPE_CHECKING:
    from opentelemetry.proto.metrics.v1.metrics_pb2 import HistogramDataPoint, Metric
    from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Receiver:
    """Everything that came in so far."""

    def __init__(self, port: int) -> None:
        self.endpoint = f"http://127.0.0.1:{port}"
        self.spans: list[Span] = []
        self.metrics: list[Metric] = []
        self._came = asyncio.Condition()

    async def take(self, tap: OtelTapHttpProtobufReceiver) -> None:
        async for span in tap.stream_traces():
            async with self._came:
                self.spans.append(span)
                self._came.notify_all()

    async def take_metrics(self, tap: OtelTapHttpProtobufReceiver) -> None:
        async for metric in tap.stream_metrics():
            async with self._came:
                self.metrics.append(metric)
                self._came.notify_all()

    async def wait_for(self, name: str, count: int = 1) -> None:
        """Return once so many spans of a name have come."""
        await self.until(lambda: [span.name for span in self.spans].count(name) >= count)

    async def until(self, holds: Callable[[], bool]) -> None:
        """Return once something holds of what has come."""
        async with self._came:
            await self._came.wait_for(holds)

    def histogram(self, name: str) -> "list[HistogramDataPoint]":
        """Return the newest point of a histogram for each process and set of attributes."""
        newest: dict[tuple[int, str], HistogramDataPoint] = {}
        for metric in self.metrics:
            for point in metric.histogram.data_points if metric.name == name else ():
                named = sorted(str(item) for item in point.attributes)
                newest[point.start_time_unix_nano, str(named)] = point
        return list(newest.values())


@contextlib.asynccontextmanager
async def receiver() -> AsyncGenerator[Receiver]:
    settings = OtelTapHttpProtobufReceiverSettings(http_port=free_port())
    async with OtelTapHttpProtobufReceiver(settings) as tap:
        found = Receiver(settings.http_port)
        reading = [asyncio.create_task(take(tap)) for take in (found.take, found.take_metrics)]
        await asyncio.sleep(0)
        try:
            yield found
        finally:
            for task in reading:
                task.cancel()
            await asyncio.wait(reading)
