"""What a user configures, and when it is noticed. Global state, so each in its own process."""

import os
import subprocess
import sys

import pytest

PREAMBLE = """
import logging, sys, threading, time
from http.server import BaseHTTPRequestHandler, HTTPServer
from offbook.actors.model import Head
from offbook.actors.ports import Attempt

def head():
    return Head(run="run_1", workflow="checkout", deployment="default", input=b"", digest="d",
                seed=b"", nonce="n", at=time.time_ns() // 1000, python="3.11")

def attempt(context):
    return Attempt("run_1", "checkout", "0-1", "charge", 1, "default", False, 0, context)

def end():
    return {"status": "completed", "at": time.time_ns() // 1000}

class Collector:
    def __init__(self):
        self.got = got = {}
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                got.setdefault(self.path, []).append((dict(self.headers), body))
                self.send_response(200)
                self.end_headers()
            def log_message(self, *args):
                pass
        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
    def resource(self):
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
            ExportTraceServiceRequest)
        import gzip
        headers, body = self.got["/v1/traces"][0]
        if headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        found = ExportTraceServiceRequest.FromString(body).resource_spans[0].resource
        return {a.key: a.value.string_value for a in found.attributes}
"""


def run(code: str, **environment: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, "-c", PREAMBLE + code],
        env=kept | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_without_opentelemetry_nothing_is_loaded_and_nothing_happens() -> None:
    assert (
        run("""
from offbook.adapters.otel import default_observer
observer = default_observer()
assert observer.start(head()) == {}
with observer.attempt(attempt({})):
    pass
observer.turn(head(), {"n": 1})
observer.ended(head(), end())
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
import opentelemetry.trace, opentelemetry.metrics
assert observer.start(head()) == {}
assert not [name for name in sys.modules if name.startswith("opentelemetry.sdk")]
""")
        == ""
    )


def test_a_provider_that_comes_late_is_noticed() -> None:
    shown = run("""
from offbook.adapters.otel import default_observer
observer = default_observer()
print(observer.start(head()))
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
trace.set_tracer_provider(TracerProvider())
print(list(observer.start(head())))
with observer.attempt(attempt({})):
    print(trace.get_current_span().get_span_context().is_valid)
""")
    assert shown.split("\n")[:-1] == ["{}", "['traceparent']", "True"]


def test_meters_that_come_after_tracers_are_noticed() -> None:
    shown = run("""
from offbook.adapters.otel import default_observer
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
trace.set_tracer_provider(TracerProvider())
observer = default_observer()
observer.start(head())
reader = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider([reader]))
observer.start(head())
print(reader.get_metrics_data().to_json())
""")
    assert "offbook.runs.started" in shown


def test_configure_sends_spans_and_metrics_over_http() -> None:
    shown = run("""
from offbook.adapters.otel import configure, default_observer
collector = Collector()
observer = default_observer()
with configure("shop", endpoint=collector.url, headers={"x-key": "k1"}, attributes={"env": "t"}):
    observer.start(head())
    observer.ended(head(), end())
(headers, spans), = collector.got["/v1/traces"]
measures = b"".join(body for _, body in collector.got["/v1/metrics"])
found = collector.resource()
print({k.lower(): v for k, v in headers.items()}["x-key"], found["service.name"], found["env"])
print(b"invoke_workflow checkout" in spans, b"workflow.start checkout" in spans)
print(b"offbook.runs.ended" in measures)
""")
    assert shown == "k1 shop t\nTrue True\nTrue\n"


def test_the_standard_variables_hold_where_no_argument_is_given() -> None:
    shown = run(
        """
import os
from offbook.adapters.otel import configure, default_observer
collector = Collector()
os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = collector.url
with configure() as telemetry:
    default_observer().start(head())
    print(telemetry.force_flush())
print(collector.resource()["service.name"], collector.resource()["team"], list(collector.got))
""",
        OTEL_SERVICE_NAME="from-env",
        OTEL_RESOURCE_ATTRIBUTES="team=blue",
        OTEL_METRICS_EXPORTER="none",
    )
    assert shown == "True\nfrom-env blue ['/v1/traces']\n"


def test_a_service_without_a_name_is_offbook() -> None:
    shown = run("""
from offbook.adapters.otel import configure, default_observer
collector = Collector()
with configure(endpoint=collector.url):
    default_observer().start(head())
found = collector.resource()
print(found["service.name"], found["telemetry.sdk.name"])
""")
    assert shown == "offbook opentelemetry\n"


def test_the_console_needs_no_collector() -> None:
    shown = run("""
from offbook.adapters.otel import configure, default_observer
with configure(console=True):
    default_observer().start(head())
""")
    assert '"name": "workflow.start checkout"' in shown
    assert "offbook.runs.started" in shown
    assert "refused" not in shown


def test_mode_and_details_reach_the_default_observer() -> None:
    shown = run("""
from offbook.adapters.otel import configure, default_observer
observer = default_observer()
with configure(console=True, mode="linked", details=True):
    told = attempt(observer.start(head()))
    try:
        with observer.attempt(told):
            raise ValueError("no funds")
    except ValueError:
        pass
""")
    assert '"workflow.trace.mode": "linked"' in shown
    assert '"exception.message": "no funds"' in shown


def test_configure_leaves_what_the_application_has_set_up() -> None:
    shown = run("""
from offbook.adapters.otel import configure, default_observer
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
own = TracerProvider()
trace.set_tracer_provider(own)
lines = []
class Keep(logging.Handler):
    def emit(self, record):
        lines.append(str(record.msg))
logging.getLogger("offbook").addHandler(Keep())
with configure(console=True) as telemetry:
    print(telemetry.tracer_provider, trace.get_tracer_provider() is own)
    print(list(default_observer().start(head())))
    print(*lines)
""")
    facts, context, line = shown.splitlines()[:3]
    assert facts == "None True"
    assert context == "['traceparent']"
    assert line.startswith("OpenTelemetry is configured already")


def test_a_dead_collector_never_breaks_a_run() -> None:
    shown = run(
        """
from offbook.adapters.otel import configure, default_observer
logging.disable()
telemetry = configure(endpoint="http://127.0.0.1:9", metric_interval=3600)
observer = default_observer()
with observer.attempt(attempt(observer.start(head()))):
    print("body ran")
observer.ended(head(), end())
telemetry.shutdown()
print("and the process goes on")
""",
        OTEL_EXPORTER_OTLP_TIMEOUT="1",
    )
    assert shown == "body ran\nand the process goes on\n"


@pytest.mark.parametrize("name", ["OtelObserver", "RunIds", "Telemetry", "configure"])
def test_the_package_shows_its_names_lazily(name: str) -> None:
    import offbook.adapters.otel as package  # noqa: PLC0415 - the import is what is tested

    assert getattr(package, name).__name__ == name
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = package.no_such_name
