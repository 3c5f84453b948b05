"""What an agent cannot be made of: said at once, and not by the first run."""

from __future__ import annotations

from collections.abc import Mapping

from offbook import InvalidOption, NotInRun, current_run

from .models.base import Model
from .plan import Callbacks


def check_agent(
    models: Mapping[str, Model], max_steps: int, output_retries: int, callbacks: Callbacks
) -> None:
    """Check what an agent is made of.

    Raises:
        InvalidOption: a model is none, a number is below 0, or a callback is not known.
    """
    for key, model in models.items():
        if not isinstance(model, Model):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidOption(f"models[{key!r}]" if key else "model", model, "a `Model`")
    for name, number in (("max_steps", max_steps), ("output_retries", output_retries)):
        if number < 0:
            raise InvalidOption(name, number, "0 or more")
    check_callbacks(callbacks)


def check_callbacks(given: Callbacks) -> None:
    """Check the callbacks of an agent, or of one call of it.

    Raises:
        InvalidOption: it is an option that is not known, or no function.
    """
    known = sorted(Callbacks.__annotations__)
    for name, value in given.items():
        if name not in known:
            raise InvalidOption(name, value, f"left out: callbacks are {', '.join(known)}")
        if not callable(value):
            raise InvalidOption(name, value, "a function")


def check_place(agent: str, stream: str | None) -> None:
    """Check that there is a stream to write to.

    Raises:
        NotInRun: the agent is called outside of runs, and is to write to a stream.
    """
    if stream is None:
        return
    try:
        current_run()
    except NotInRun:
        where = "a workflow or step; outside of runs give it stream=None"
        raise NotInRun(f"{agent}.run()", where) from None


def positive(name: str, number: float, least: float) -> None:
    """Check a number.

    Raises:
        InvalidOption: it is below the least.
    """
    if not number >= least:
        raise InvalidOption(name, number, f"{least:g} or more")
