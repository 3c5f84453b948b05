"""What goes wrong between an agent and its models."""

from dataclasses import dataclass

from offbook import OffbookError, register

_CURES = {
    401: "check the API key in the worker's environment",
    403: "check what the API key in the worker's environment may do",
    404: "check the model's name and the base URL",
    413: "shorten the conversation",
}


@register
@dataclass(eq=False)
class ModelError(OffbookError):
    """A model's vendor refused the request, failed, or cut the answer short.

    `status` is the HTTP status, of an error inside of a stream the one that it stands for, or None
    where there was none; `vendor_code` the vendor's word for it. `retryable` says whether asking
    again may help, `retry_after` (seconds) when the vendor wants that, None where it did not say.
    """

    code = "model-failed"
    provider: str
    model: str
    message: str
    status: int | None = None
    vendor_code: str = ""
    retryable: bool = False
    retry_after: float | None = None

    def __str__(self) -> str:
        known = (f"HTTP {self.status}" if self.status else "", self.vendor_code)
        shown = ", ".join(filter(None, known))
        where = f" ({shown})" if shown else ""
        return f"{self.provider}, {self.model}: {self.message}{where}; {self._cure()}"

    def _cure(self) -> str:
        if self.retry_after is not None and self.retryable:
            return f"try again in {self.retry_after:g} s"
        if self.retryable:
            return "try again"
        return _CURES.get(self.status or 0, "mend the request: asking again gives the same")


@register
@dataclass(eq=False)
class OutputInvalid(OffbookError):
    """A model's answer did not fit the agent's `output=`, also after it was told so.

    `reason` is what is wrong with the last answer, `text` that answer.
    """

    code = "output-invalid"
    agent: str
    reason: str
    text: str

    def __str__(self) -> str:
        return (
            f"the answer of {self.agent!r} is not of its output's type: {self.reason}; say in the "
            "instructions what is wanted, allow more `output_retries`, or use another model"
        )


@register
@dataclass(eq=False)
class McpServerFailed(OffbookError):
    """An MCP server could not be reached, died, or did not answer as such a server does.

    `server` is the name of its tool set, `message` what went wrong, without its address.
    """

    code = "mcp-server-failed"
    server: str
    message: str

    def __str__(self) -> str:
        return (
            f"the MCP server {self.server!r} failed: {self.message}; see that its command, or its "
            "url and headers, are right and that it runs"
        )


@register
@dataclass(eq=False)
class TurnFailed(OffbookError):
    """A turn of a conversation ended with an error; the conversation goes on.

    `number` is the turn's, `reason` what those who watch were told.
    """

    code = "turn-failed"
    number: int
    reason: str

    def __str__(self) -> str:
        return (
            f"turn {self.number} failed: {self.reason}; the conversation goes on: mend the cause, "
            "and say it again"
        )
