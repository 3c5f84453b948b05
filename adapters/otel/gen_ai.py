"""Metrics of models, agents and tools, by OpenTelemetry's conventions for generative AI.

They come from spans: whatever is shown with a `gen_ai.operation.name` is measured, once, when it
ends. The names are those of the conventions, which have no stable release yet.
"""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from time import perf_counter
from typing import Any

from opentelemetry.metrics import Histogram, Meter

from offbook.actors.ports import Passage

from . import faults

_TOKENS = tuple(4**n for n in range(14))
_CALL = tuple(0.01 * 2**n for n in range(14))
_FIRST = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
_AGENT = (*(0.1 * 2**n for n in range(13)), 3600, 86400, 7 * 86400)

_OPERATION = "gen_ai.operation.name"
_FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
_OF_CALL = (_OPERATION, "gen_ai.provider.name", "gen_ai.request.model", "gen_ai.response.model")
_OF_AGENT = ("gen_ai.agent.name", "gen_ai.request.model")
_OF_TOOL = ("gen_ai.tool.name", "gen_ai.tool.type", "gen_ai.agent.name")
_CALLS = frozenset({"chat", "generate_content", "text_completion", "embeddings"})


class GenAiMeters:
    """The instruments, created once for a meter."""

    def __init__(self, meter: Meter) -> None:
        self._tokens = _histogram(
            meter, "client.token.usage", "{token}", _TOKENS, "Tokens that calls of models used"
        )
        self._call = _histogram(
            meter, "client.operation.duration", "s", _CALL, "Duration of a call of a model"
        )
        self._first = _histogram(
            meter, "client.operation.time_to_first_chunk", "s", _FIRST,
            "From the request to the first piece of the answer",
        )  # fmt: skip
        self._agent = _histogram(
            meter, "invoke_agent.duration", "s", _AGENT, "Duration of a call of an agent"
        )
        self._tool = _histogram(
            meter, "execute_tool.duration", "s", _CALL, "Duration of a use of a tool"
        )

    @contextmanager
    def within(self, passage: Passage) -> Generator[None, None, None]:
        """Measure a part of a step, if it is one of these."""
        began, fault = perf_counter(), ""
        try:
            yield
        except BaseException as error:
            fault = faults.kind(error)
            raise
        finally:
            self.ended(passage.attributes, perf_counter() - began, fault)

    def ended(self, told: Mapping[str, Any], seconds: float, fault: str) -> None:
        """Record what a span that took some seconds tells, if it is one of these."""
        operation = told.get(_OPERATION)
        error = {"error.type": str(told.get("error.type") or fault)} if fault else {}
        if operation in _CALLS:
            self._call_ended(told, seconds, error)
        elif operation == "invoke_agent":
            self._agent.record(seconds, _some(told, _OF_AGENT) | error)
        elif operation == "execute_tool":
            self._tool.record(seconds, _some(told, _OF_TOOL) | error)

    def _call_ended(self, told: Mapping[str, Any], seconds: float, error: dict[str, str]) -> None:
        names = _some(told, _OF_CALL)
        self._call.record(seconds, names | error)
        if _FIRST_CHUNK in told:
            self._first.record(told[_FIRST_CHUNK], names)
        for kind in ("input", "output"):
            used = told.get(f"gen_ai.usage.{kind}_tokens")
            if used:  # none at all is what a vendor says that does not count
                self._tokens.record(used, names | {"gen_ai.token.type": kind})


def _histogram(
    meter: Meter, name: str, unit: str, buckets: tuple[float, ...], text: str
) -> Histogram:
    return meter.create_histogram(
        f"gen_ai.{name}", unit, text, explicit_bucket_boundaries_advisory=buckets
    )


def _some(told: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, str]:
    return {name: str(told[name]) for name in names if told.get(name) is not None}
