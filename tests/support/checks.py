"""The verdict over a disturbed play."""

from offbook.ops.chaos.checks import SLACK, verdicts
from offbook.ops.chaos.evidence import Evidence, Verdict

__all__ = ["SLACK", "Evidence", "Verdict", "verdicts"]
