"""Sets OpenTelemetry up for applications that have not done so themselves."""

import os
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    ConsoleMetricExporter,
    MetricExporter,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter

from ..log import write
from .ids import Mode, RunIds
from .observer import OtelObserver
from .real import is_real


class Telemetry:
    """What `configure()` set up. Use it as a context manager, or call `shutdown()` at the end.

    The providers are also flushed when the interpreter ends in an orderly way.
    """

    def __init__(
        self, tracer_provider: TracerProvider | None, meter_provider: MeterProvider | None
    ) -> None:
        self.tracer_provider = tracer_provider
        self.meter_provider = meter_provider
        self.observer = OtelObserver(tracer_provider, meter_provider)

    def __repr__(self) -> str:
        traces, measures = self.tracer_provider is not None, self.meter_provider is not None
        return f"Telemetry(traces={traces}, metrics={measures})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.shutdown()

    def force_flush(self, timeout: float = 10.0) -> bool:
        """Send what is pending; block for up to `timeout` seconds; return whether all went out."""
        limit = int(timeout * 1000)
        flushed = [p.force_flush(limit) for p in (self.tracer_provider, self.meter_provider) if p]
        return all(flushed)

    def shutdown(self) -> None:
        """Send what is pending and stop. It blocks while it sends."""
        if self.tracer_provider:
            self.tracer_provider.shutdown()
        if self.meter_provider:
            self.meter_provider.shutdown()


def configure(  # noqa: PLR0913 - all of them optional, by name
    service_name: str | None = None,
    *,
    endpoint: str | None = None,
    headers: Mapping[str, str] | None = None,
    console: bool = False,
    mode: Mode = "continuous",
    details: bool = False,
    attributes: Mapping[str, str] | None = None,
    metric_interval: float | None = None,
) -> Telemetry:
    """Set up the global tracer and meter providers with OTLP over HTTP.

    Where the application has set one of them already, that one is left as it is: nothing needs to
    be configured then. The `OTEL_*` variables hold wherever an argument is not given.

    Args:
        service_name: default `OTEL_SERVICE_NAME`, else `offbook`.
        endpoint: base URL of the collector, such as `http://127.0.0.1:4318`; default
            `OTEL_EXPORTER_OTLP_ENDPOINT`, else port 4318 on this machine.
        headers: for the collector, such as an API key.
        console: write to standard output, and to a collector only if one is named.
        mode: `"continuous"`, one trace per run, or `"linked"`, a trace per span with a link to
            where the run began.
        details: put the texts of errors into spans.
        attributes: of the resource, such as `deployment.environment.name`.
        metric_interval: seconds between exports of metrics; default 60, or
            `OTEL_METRIC_EXPORT_INTERVAL`.
    """
    target = _Target(endpoint, headers, console=console)
    resource = _resource(service_name, attributes)
    tracing = metering = None
    if _free(trace.get_tracer_provider()):
        tracing = TracerProvider(resource=resource, id_generator=RunIds(mode=mode, details=details))
        for exporter in target.traces():
            tracing.add_span_processor(BatchSpanProcessor(exporter))
        trace.set_tracer_provider(tracing)
    if _free(metrics.get_meter_provider()):
        milliseconds = None if metric_interval is None else metric_interval * 1000
        readers = [PeriodicExportingMetricReader(e, milliseconds) for e in target.metrics()]
        metering = MeterProvider(metric_readers=readers, resource=resource)
        metrics.set_meter_provider(metering)
    return Telemetry(tracing, metering)


def _free(provider: object) -> bool:
    if not is_real(provider):
        return True
    kind = f"{type(provider).__module__}.{type(provider).__qualname__}"
    write("warning", "OpenTelemetry is configured already, left as it is", provider=kind)
    return False


def _resource(service_name: str | None, attributes: Mapping[str, str] | None) -> Resource:
    name = service_name or os.environ.get("OTEL_SERVICE_NAME")
    given = dict(attributes or {})
    if name:
        given["service.name"] = name
    return Resource({"service.name": "offbook"}).merge(_detected()).merge(Resource(given))


def _detected() -> Resource:
    # The SDK fills in `unknown_service`, which must not hide our default.
    found = Resource.create()
    name = str(found.attributes.get("service.name", ""))
    if not name.startswith("unknown_service"):
        return found
    kept = {k: v for k, v in found.attributes.items() if k != "service.name"}
    return Resource(kept, found.schema_url)


class _Target:
    """Where signals go, from the arguments and the environment."""

    def __init__(
        self, endpoint: str | None, headers: Mapping[str, str] | None, *, console: bool
    ) -> None:
        self._endpoint = endpoint.rstrip("/") if endpoint else None
        self._headers = dict(headers) if headers else None
        self._console = console

    def traces(self) -> list[SpanExporter]:
        exporters: list[SpanExporter] = []
        kinds = self._kinds("TRACES")
        if "console" in kinds:
            exporters.append(ConsoleSpanExporter())
        if "otlp" in kinds:
            exporters.append(self._otlp_traces())
        return exporters

    def metrics(self) -> list[MetricExporter]:
        exporters: list[MetricExporter] = []
        kinds = self._kinds("METRICS")
        if "console" in kinds:
            exporters.append(ConsoleMetricExporter())
        if "otlp" in kinds:
            exporters.append(self._otlp_metrics())
        return exporters

    def _kinds(self, signal: str) -> set[str]:
        named = os.environ.get(f"OTEL_{signal}_EXPORTER", "")
        kinds = {kind.strip() for kind in named.split(",")}
        alone = self._console and not _env("ENDPOINT", signal)
        if self._endpoint or not (named or alone):
            kinds.add("otlp")
        if self._console:
            kinds.add("console")
        return kinds

    def _otlp_traces(self) -> SpanExporter:
        if _env("PROTOCOL", "TRACES") == "grpc":
            from opentelemetry.exporter.otlp.proto.grpc import trace_exporter as grpc  # noqa: PLC0415 - loads grpc

            return grpc.OTLPSpanExporter(self._endpoint, headers=self._headers)
        from opentelemetry.exporter.otlp.proto.http import trace_exporter as http  # noqa: PLC0415

        return http.OTLPSpanExporter(self._url("traces"), headers=self._headers)

    def _otlp_metrics(self) -> MetricExporter:
        if _env("PROTOCOL", "METRICS") == "grpc":
            from opentelemetry.exporter.otlp.proto.grpc import metric_exporter as grpc  # noqa: PLC0415 - loads grpc

            return grpc.OTLPMetricExporter(self._endpoint, headers=self._headers)
        from opentelemetry.exporter.otlp.proto.http import metric_exporter as http  # noqa: PLC0415

        return http.OTLPMetricExporter(self._url("metrics"), headers=self._headers)

    def _url(self, signal: str) -> str | None:
        return f"{self._endpoint}/v1/{signal}" if self._endpoint else None


def _env(what: str, signal: str) -> str:
    own = os.environ.get(f"OTEL_EXPORTER_OTLP_{signal}_{what}", "")
    return own or os.environ.get(f"OTEL_EXPORTER_OTLP_{what}", "")
