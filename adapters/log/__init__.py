"""Log lines with run, step and attempt: quiet until the application sets logging up."""

from .context import AttemptFilter, bound
from .fanout import NOTHING, Observers
from .logger import write
from .observer import LogObserver

__all__ = ["NOTHING", "AttemptFilter", "LogObserver", "Observers", "bound", "write"]
