"""The steps by which an agent does what a body must not: made when it is, known by name."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, Generic, Literal, TypedDict, TypeVar, cast

from pydantic import PydanticUserError
from pydantic_ai.agent import Agent
from pydantic_ai.durable_exec import (
    BoundDurableOperation,
    DurableOperation,
    DurableOperationConfig,
    DurableOperationId,
    JournalOperationNamer,
    OperationConfigRole,
    RegisteredOperationBackend,
    durable_unit_scope,
)
from pydantic_ai.exceptions import (
    FallbackExceptionGroup,
    ModelAPIError,
    ModelQuotaExceededError,
    ModelRequestRejectedError,
    ModelRequestTimeout,
    UnexpectedModelBehavior,
    UsageLimitExceeded,
    UserError,
)

from offbook.actors.define import Step, step
from offbook.actors.errors import FatalError, InvalidOption, RetryableError
from offbook.actors.options import Duration, Retry, step_options

from .spec import KEY
from .wires import Wire, Wires

P = TypeVar("P")
R = TypeVar("R")

FINAL = (
    UserError,
    PydanticUserError,
    UnexpectedModelBehavior,
    UsageLimitExceeded,
    FallbackExceptionGroup,
    ModelRequestRejectedError,
    ModelQuotaExceededError,
    ModelRequestTimeout,
)
"""Errors that are the same at every attempt."""

PATIENT = Retry(attempts=8, first=1, factor=2, maximum=120, never=FINAL)
"""How often a model is asked: seven more times, in about four minutes."""


_MOST_THREADS = 64


@cache
def _threads() -> ThreadPoolExecutor:
    """Return where sync tools run: an event loop of virtual time must know of their threads."""
    return ThreadPoolExecutor(_MOST_THREADS, thread_name_prefix="offbook-pydantic-ai")


class StepConfig(TypedDict, total=False):
    """The options of a step; see `offbook.step`."""

    retry: int | Retry
    timeout: Duration | None
    deadline: Duration | None
    heartbeat: Duration | None
    queue: str


class Configs(DurableOperationConfig[StepConfig]):
    """Which options the steps of an agent have: those of models, and those of all else.

    A tool's metadata may say others, `{"offbook": {…}}`, or False: it runs in the body.
    """

    def __init__(self, model: StepConfig, tools: StepConfig) -> None:
        self._model: StepConfig = {"retry": PATIENT, **model}
        self._tools: StepConfig = {"retry": Retry(never=FINAL), **tools}

    def base(self, role: OperationConfigRole, *, operation_id: DurableOperationId) -> StepConfig:
        """Return the options of an operation's step."""
        del operation_id
        return self._model if role == "model" else self._tools

    def for_tool(
        self,
        role: OperationConfigRole,
        *,
        operation_id: DurableOperationId,
        tool: object | None,
        tool_name: str,
    ) -> StepConfig | Literal[False]:
        """Return the options of one tool's step; False: it has none.

        Raises:
            InvalidOption: its metadata say something that no step has.
        """
        base = self.base(role, operation_id=operation_id)
        metadata: dict[str, Any] = getattr(getattr(tool, "tool_def", None), "metadata", None) or {}
        said: object = metadata.get(KEY)
        if said is False:
            return False
        if said is None:
            return base
        known = StepConfig.__annotations__
        options = cast("dict[str, Any]", said) if isinstance(said, dict) else {"": None}
        if not options.keys() <= known.keys():
            expected = f"options of a step ({', '.join(known)}), or False"
            raise InvalidOption(f"metadata[{KEY!r}] of the tool {tool_name}", options, expected)
        return cast("StepConfig", {**base, **options})


class Steps(RegisteredOperationBackend[StepConfig]):
    """Makes the steps of one agent. home: the module whose exceptions they know as themselves."""

    def __init__(self, name: str, home: str, configs: Configs, wires: Wires) -> None:
        super().__init__(
            namer=JournalOperationNamer(name), config=configs, parameter_transports=wires
        )
        self._home = home
        self.made: list[Step[..., Any]] = []

    def register(
        self, operation: DurableOperation[P, Any, R], *, name: str, config: StepConfig
    ) -> tuple[BoundDurableOperation[P, Any, R], Sequence[Callable[..., object]]]:
        """Make the step of an operation, and what calls it."""
        body = _body(operation)
        body.__module__, body.__qualname__ = self._home, name
        made: Step[..., Any] = step(name=name, raises=FINAL, **config)(body)
        self.made.append(made)
        return Bound(operation, made, config), ()


def _body(operation: DurableOperation[P, Any, R]) -> Callable[[Wire], Any]:
    async def run(given: dict[str, Any]) -> Any:  # noqa: ANN401 - JSON data
        params = operation.parameter_transport.load(given, runtime=None)
        with Agent.using_thread_executor(_threads()), durable_unit_scope():
            try:
                result = await operation.handler(params)
            except ModelAPIError as error:
                if error.retry_after is None or isinstance(error, FINAL):
                    raise
                raise RetryableError(str(error), after=error.retry_after) from error
        return operation.result_codec.dump(result)

    return run


class Bound(BoundDurableOperation[P, Any, R], Generic[P, R]):
    """An operation that is done by a step."""

    def __init__(
        self, operation: DurableOperation[P, Any, R], made: Step[..., Any], config: StepConfig
    ) -> None:
        self._operation = operation
        self._step = made
        self._config = config

    @property
    def operation(self) -> DurableOperation[P, Any, R]:
        """What is done."""
        return self._operation

    async def __call__(self, params: P, *, config: object | None = None) -> R:
        """Do it, and wait for the result.

        Raises:
            The operation's own errors, as they were in the step.
        """
        wire = self._operation.parameter_transport.dump(params)
        try:
            payload = await self._for(cast("StepConfig | None", config))(wire)
        except (FatalError, RetryableError) as error:
            # How long to wait is the step's business; what is wrong is the model's answer.
            if isinstance(error.__cause__, ModelAPIError):
                raise error.__cause__ from None
            raise
        return self._operation.result_codec.load(payload)

    def _for(self, config: StepConfig | None) -> Step[..., Any]:
        if config is None or config == self._config:
            return self._step
        made: Step[..., Any] = Step(self._step.fn, self._step.name, step_options(**config))
        return made
