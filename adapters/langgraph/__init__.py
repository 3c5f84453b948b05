"""LangGraph: a checkpointer that keeps what graphs remember in the namespace of the runs.

It needs the package `langgraph-checkpoint`: `pip install 'offbook[langgraph]'`.
"""

from offbook.actors.errors import MissingDependency

try:
    from .saver import OffbookSaver as OffbookSaver
    from .threaded import saver_in_thread as saver_in_thread
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in {"langgraph", "langchain_core"}:
        raise
    raise MissingDependency("offbook.adapters.langgraph", "offbook[langgraph]") from None
