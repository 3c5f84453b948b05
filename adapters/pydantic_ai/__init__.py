"""pydantic-ai: any of its agents durable inside a workflow, by one argument.

It needs the package `pydantic-ai-slim`: `pip install 'offbook[pydantic-ai]'`.
"""

from offbook.actors.errors import MissingDependency

try:
    from .durable import Durable as Durable
    from .events import read_events as read_events
    from .steps import StepConfig as StepConfig
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in {"pydantic_ai", "pydantic_graph"}:
        raise
    raise MissingDependency("offbook.adapters.pydantic_ai", "offbook[pydantic-ai]") from None
