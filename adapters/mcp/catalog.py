"""What callers are offered: the tools, with their schemas. Pure: no I/O, and nothing of `mcp`."""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Literal, cast

import pydantic

from offbook.actors.define import Parameters, Workflow
from offbook.actors.errors import InvalidOption
from offbook.actors.schema import schema_of

Effect = Literal["reads", "adds", "ends"]

LONGEST_WAIT = 60
"""Seconds that one call may wait for a run."""
MOST_CHUNKS = 1000

_ODD = re.compile(r"[^A-Za-z0-9_-]")
_LONGEST_NAME = 64
_DEFINITIONS = "$defs"


@dataclass(frozen=True, slots=True)
class Offer:
    """A tool: its name, what it is for, the JSON Schema of its arguments, and what it does.

    workflow: the one that it starts; None for all other tools.
    """

    name: str
    description: str
    schema: dict[str, Any]
    effect: Effect
    workflow: Workflow[..., Any] | None = None


def _object(required: Collection[str], **properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def _text(description: str) -> dict[str, Any]:
    return {"type": "string", "description": description}


_RUN = _text("The run's id.")
_WAIT: dict[str, Any] = {
    "type": "number",
    "minimum": 0,
    "maximum": LONGEST_WAIT,
    "description": "Seconds to wait for news where there is none yet (default 0).",
}

COMMON = (
    Offer(
        "run_status",
        "Tell where a run stands: its status, its latest steps, and what it waits for.",
        _object(["run"], run=_RUN),
        "reads",
    ),
    Offer(
        "run_result",
        "Return the result of a run that has completed. While it goes on, the answer is its "
        "status without a result; one that failed or was cancelled is an error.",
        _object(["run"], run=_RUN, wait=_WAIT),
        "reads",
    ),
    Offer(
        "read_stream",
        "Read what a run has written to an output stream. Pass the cursor of one answer to get "
        "what comes after it; done says that nothing more can come.",
        _object(
            ["run"],
            run=_RUN,
            stream=_text("The stream's name (default: default)."),
            cursor=_text("The cursor of the answer before; without it, from the beginning."),
            limit={
                "type": "integer",
                "minimum": 1,
                "maximum": MOST_CHUNKS,
                "description": "Chunks at most (default 100).",
            },
            wait=_WAIT,
        ),
        "reads",
    ),
    Offer(
        "resume_hook",
        "Send a payload to the hook that a run waits for. With an id of your own, sending the "
        "same again is safe.",
        _object(
            ["token"],
            token=_text("The hook's token."),
            payload={"description": "What the run waits for, as JSON (default null)."},
            id=_text("Makes a repeated sending count once."),
        ),
        "adds",
    ),
    Offer(
        "cancel_run",
        "Ask a run to stop. It may clean up first; run_status tells when it has ended.",
        _object(["run"], run=_RUN, reason=_text("Why; it is kept in the run's history.")),
        "ends",
    ),
)


def offers(
    startable: Iterable[Workflow[..., Any]], only: Collection[str] | None
) -> dict[str, Offer]:
    """Return the tools by name: one to start each workflow, and those for runs.

    only: the names of those that are offered; None is all.

    Raises:
        InvalidOption: something is no workflow, two tools have one name, or a name is of none.
    """
    found: dict[str, Offer] = {}
    for offer in (*map(start_offer, startable), *COMMON):
        if offer.name in found:
            raise InvalidOption("start", offer.name, "workflows whose tools have names that differ")
        found[offer.name] = offer
    if only is None:
        return found
    strange = sorted(set(only) - set(found))
    if strange:
        raise InvalidOption("only", strange[0], f"of {', '.join(found)}")
    return {name: offer for name, offer in found.items() if name in only}


def start_offer(workflow: object) -> Offer:
    """Return the tool that starts a workflow.

    Raises:
        InvalidOption: it is none.
    """
    if not isinstance(workflow, Workflow):
        raise InvalidOption("start", workflow, "functions decorated with @workflow")
    made = cast("Workflow[..., Any]", workflow)
    name = _ODD.sub("_", f"start_{made.name}")[:_LONGEST_NAME]
    told = (made.fn.__doc__ or "").strip()
    about = f"Start a run of {made.name} and return its id at once, before it has run."
    return Offer(
        name, f"{about} {told}".rstrip(), _start_schema(made.parameters), "adds", workflow=made
    )


def _start_schema(parameters: Parameters) -> dict[str, Any]:
    arguments, definitions = _arguments(parameters)
    found = _object(
        ["arguments"] if arguments["required"] else [],
        arguments=arguments,
        run=_text(
            "The run's id, letters, digits, _ and - (default: a new one). Starting again with the "
            "same id and arguments is the same run."
        ),
    )
    return found | ({_DEFINITIONS: definitions} if definitions else {})


def _arguments(parameters: Parameters) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the schema of a workflow's arguments, and what it refers to."""
    asked: list[tuple[str, Literal["validation"], pydantic.TypeAdapter[Any]]] = []
    properties: dict[str, Any] = {}
    for name in parameters.names:
        hint = parameters.hint(name)
        plain = schema_of(hint)
        properties[name] = _many(parameters.variadic(name), {})
        if plain is not None:
            asked.append((name, "validation", pydantic.TypeAdapter(hint)))
    schemas, whole = pydantic.TypeAdapter.json_schemas(asked)
    for (name, _), schema in schemas.items():
        properties[str(name)] = _many(parameters.variadic(str(name)), schema)
    return _object(parameters.required, **properties), whole.get(_DEFINITIONS, {})


def _many(variadic: str, schema: dict[str, Any]) -> dict[str, Any]:
    if variadic == "args":
        return {"type": "array", "items": schema}
    return {"type": "object", "additionalProperties": schema} if variadic else schema
