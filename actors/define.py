"""`@workflow` and `@step`: what they make, and where it is found again."""

import asyncio
import inspect
import logging
import sys
import threading
import typing
from collections.abc import Callable, Coroutine, Iterable
from functools import cached_property, partial, update_wrapper
from pathlib import Path
from types import MethodType, ModuleType
from typing import Any, Generic, ParamSpec, TypeVar, overload

import typing_extensions

from .codec import know_module
from .context import current_body
from .errors import DuplicateName, InvalidArguments, InvalidOption
from .options import Duration, Retry, StepOptions, classes_of, step_options
from .records import resolved
from .values import text

P = ParamSpec("P")
R = TypeVar("R")

_log = logging.getLogger("offbook")
_UNRESOLVED = (
    "%s: the annotation of %r, %r, cannot be resolved (%s), so that its values arrive as plain "
    "data: import what it names at run time, not only under TYPE_CHECKING"
)
_OWN = "offbook."
"""So begin the names of the runtime's own steps."""

_NAME_BYTES = 256
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class Parameters:
    """The signature of a function: binds calls to names, and names back to calls."""

    def __init__(self, name: str, fn: Callable[..., Any]) -> None:
        self.name = name
        self._fn = fn
        self._signature = inspect.signature(fn)
        parameters = list(self._signature.parameters.values())
        self.simple = tuple(p.name for p in parameters if p.kind in _POSITIONAL)
        self._required = sum(
            p.kind in _POSITIONAL and p.default is inspect.Parameter.empty for p in parameters
        )
        self._only_simple = all(p.kind in _POSITIONAL for p in parameters)
        self._kinds = {p.name: p.kind for p in parameters}

    def __repr__(self) -> str:
        return f"Parameters({self.shown})"

    @property
    def shown(self) -> str:
        """The call as people read it: `shop.pay(order: Order, times: int = 1)`."""
        return f"{self.name}{self._signature}"

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters, in order."""
        return tuple(self._kinds)

    @property
    def required(self) -> tuple[str, ...]:
        """The parameters that a call must give, in order."""
        empty, parameters = inspect.Parameter.empty, self._signature.parameters.values()
        return tuple(p.name for p in parameters if p.default is empty and not self.variadic(p.name))

    @cached_property
    def hints(self) -> dict[str, Any]:
        """The resolved annotations; one that cannot be resolved is missing, and told of."""
        try:
            return typing.get_type_hints(self._fn, include_extras=True)
        except Exception:  # noqa: BLE001 - evaluating one may do anything
            return self._resolved_alone()

    def _resolved_alone(self) -> dict[str, Any]:
        annotations = typing_extensions.get_annotations(
            self._fn, format=typing_extensions.Format.FORWARDREF
        )
        names = getattr(inspect.unwrap(self._fn), "__globals__", {})
        hints: dict[str, Any] = {}
        for name, annotation in annotations.items():
            try:
                hints[name] = resolved(annotation, names)
            except Exception as error:  # noqa: BLE001 - as above
                _log.warning(_UNRESOLVED, self.name, name, annotation, error)
        return hints

    def hint(self, parameter: str) -> Any:  # noqa: ANN401 - an annotation is any object
        """Return what one value of a parameter is annotated as (each one of `*args`)."""
        return self.hints.get(parameter, Any)

    @property
    def result(self) -> Any:  # noqa: ANN401 - an annotation is any object
        """The annotation of the result, Any where there is none."""
        return self.hints.get("return", Any)

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments by name, without defaults.

        Raises:
            InvalidArguments: the call does not fit the signature.
        """
        if self._only_simple and not kwargs and self._required <= len(args) <= len(self.simple):
            return dict(zip(self.simple, args, strict=False))
        try:
            return dict(self._signature.bind(*args, **kwargs).arguments)
        except TypeError as error:
            raise InvalidArguments(self.name, f"{error}; it takes {self._signature}") from None

    def call(self, arguments: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Return the positional and keyword arguments that `bind` took apart.

        Raises:
            InvalidArguments: a name is unknown, or one without default is missing.
        """
        if self._only_simple and arguments.keys() == self._kinds.keys():
            # The usual call, without the costly way over `inspect`.
            return [arguments[name] for name in self.simple], {}
        bound = inspect.BoundArguments(self._signature, typing.cast("Any", dict(arguments)))
        unknown = [name for name in arguments if name not in self._kinds]
        if unknown:
            raise InvalidArguments(self.name, f"it has no parameter {unknown[0]!r}")
        missing = [
            p.name
            for p in self._signature.parameters.values()
            if p.name not in arguments
            and p.default is inspect.Parameter.empty
            and p.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        ]
        if missing:
            raise InvalidArguments(self.name, f"the argument {missing[0]!r} is missing")
        return list(bound.args), dict(bound.kwargs)

    def takes(self, name: str) -> bool:
        """Return whether a parameter of this name can be given by keyword."""
        kind = self._kinds.get(name)
        return kind in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)

    def variadic(self, parameter: str) -> str:
        """Return `args` for the `*` parameter, `kwargs` for the `**` one, else nothing."""
        kind = self._kinds.get(parameter)
        if kind is inspect.Parameter.VAR_POSITIONAL:
            return "args"
        return "kwargs" if kind is inspect.Parameter.VAR_KEYWORD else ""


class _NoOwner:
    """Stands for the class of a class method until that class is made."""


def _unwrap(fn: object) -> Callable[..., Any]:
    inner = getattr(fn, "__func__", fn)
    if not callable(inner) or isinstance(inner, type):
        raise InvalidOption("the decorated object", fn, "a function")
    if inspect.isgeneratorfunction(inner) or inspect.isasyncgenfunction(inner):
        raise InvalidOption("the decorated object", fn, "a function that returns, not a generator")
    return MethodType(inner, _NoOwner) if isinstance(fn, classmethod) else inner


def _module_name(fn: Callable[..., Any]) -> str:
    name = fn.__module__
    if name != "__main__":
        return name
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name != "__main__":
        return str(spec.name)
    return Path(getattr(main, "__file__", None) or "__main__").stem


def _default_name(fn: Callable[..., Any]) -> str:
    return f"{_module_name(fn)}.{fn.__qualname__}".replace(".<locals>", "")


def _checked_name(name: object, fn: Callable[..., Any]) -> str:
    found = text("name", name, 1, _NAME_BYTES)
    if found.startswith(_OWN) and not _module_name(fn).startswith(_OWN):
        raise InvalidOption("name", name, f"one that does not begin with {_OWN!r}")
    return found


class Definition(Generic[P, R]):
    """A named function: the common half of `Step` and `Workflow`.

    As a class member it may be a method (its object is the first argument, by value), a static
    method, or a class method (which gets the class that defines it, also through a subclass).
    """

    kind = "definition"
    takes_object = True
    __call__: Callable[..., Any]

    def __init__(self, fn: Callable[..., Any], name: str | None) -> None:
        self.fn = fn
        self.name = _default_name(fn) if name is None else _checked_name(name, fn)
        self.parameters = Parameters(self.name, fn)
        update_wrapper(self, fn)

    def __set_name__(self, owner: type, _name: str) -> None:
        if isinstance(self.fn, MethodType) and self.fn.__self__ is _NoOwner:
            self.fn = self.__wrapped__ = MethodType(self.fn.__func__, owner)

    def __repr__(self) -> str:
        return f"<{self.kind} {self.name}>"

    def __get__(self, instance: object, owner: type | None = None) -> Any:  # noqa: ANN401
        if instance is None or not self.takes_object:
            return self
        return partial(self.__call__, instance)

    @property
    def where(self) -> str:
        """File and line of the function."""
        code = getattr(self.fn, "__code__", None)
        return f"{code.co_filename}:{code.co_firstlineno}" if code else repr(self.fn)


class Step(Definition[P, R]):
    """A function whose result is recorded once when a workflow calls it.

    Outside of a workflow, and inside another step, it is the plain function; a sync one runs in
    a thread.
    """

    kind = "step"

    def __init__(self, fn: Callable[..., Any], name: str | None, options: StepOptions) -> None:
        super().__init__(fn, name)
        self.options = options
        self.is_async = inspect.iscoroutinefunction(fn)

    @cached_property
    def wire(self) -> dict[str, Any]:
        """The options as a command holds them; not to be changed."""
        return self.options.to_wire()

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Ask for the step in a workflow body; elsewhere call the function."""
        body = current_body()
        if body is not None:
            return body.call_step(self, args, kwargs)
        return self.run(*args, **kwargs)

    def run(self, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, R]:  # noqa: ANN401
        """Call the function itself, without record, in a thread if it is sync."""
        if self.is_async:
            return typing.cast("Coroutine[Any, Any, R]", self.fn(*args, **kwargs))
        return asyncio.to_thread(in_thread, self.fn, *args, **kwargs)


def in_thread(fn: Callable[..., R], *args: Any, **kwargs: Any) -> R:  # noqa: ANN401 - of any function
    """Call the function of a sync step in its thread."""
    try:
        return fn(*args, **kwargs)
    except StopIteration as error:
        # As a coroutine does. No future can hold it, so that nobody would hear of the end.
        raise RuntimeError("a step raised StopIteration") from error


class Bound(Generic[R]):
    """A workflow with its arguments, from `Workflow.bind`, for a fully typed start."""

    def __init__(self, workflow: "Workflow[..., R]", arguments: dict[str, Any]) -> None:
        self.workflow = workflow
        self.arguments = arguments

    def __repr__(self) -> str:
        return f"<{self.workflow.name} bound to {list(self.arguments)}>"


class Workflow(Definition[P, R]):
    """A function that orchestrates. Called directly it runs inline, in the caller's run."""

    kind = "workflow"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Call the function inline: its steps belong to the caller's run."""
        return typing.cast("Coroutine[Any, Any, R]", self.fn(*args, **kwargs))

    def bind(self, *args: P.args, **kwargs: P.kwargs) -> Bound[R]:
        """Check the arguments and keep them for `client.start`."""
        return Bound(self, self.parameters.bind(args, dict(kwargs)))


def workflow_call(
    workflow: object, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Workflow[..., Any], dict[str, Any]]:
    """Return the workflow that a start names, and its arguments by name.

    Raises:
        InvalidOption: it is none, or arguments are given to one that has them already.
        InvalidArguments: they do not fit its signature.
    """
    if isinstance(workflow, Bound):
        if args or kwargs:
            raise InvalidOption("arguments", args or kwargs, "left out: they are bound already")
        return workflow.workflow, workflow.arguments  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType] - of any result
    found = check_workflow("workflow", workflow)
    return found, found.parameters.bind(args, kwargs)


def check_workflow(field: str, value: object) -> Workflow[..., Any]:
    """Return a workflow.

    Raises:
        InvalidOption: it is none.
    """
    if not isinstance(value, Workflow):
        expected = "a function decorated with @workflow"
        if inspect.iscoroutine(value):
            value.close()
            expected += ", with its arguments after it and not called with them"
        raise InvalidOption(field, value, expected)
    return typing.cast("Workflow[..., Any]", value)


class Registry:
    """The workflows and steps that a process knows by name."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.workflows: dict[str, Workflow[..., Any]] = {}
        self.steps: dict[str, Step[..., Any]] = {}
        self.modules: set[str] = set()

    def __repr__(self) -> str:
        return f"Registry({len(self.workflows)} workflows, {len(self.steps)} steps)"

    def add(self, definition: Definition[..., Any]) -> None:
        """Register a step or workflow.

        Raises:
            DuplicateName: another function has this name.
        """
        with self._lock:
            if isinstance(definition, Step):
                self._put(self.steps, definition)
            elif isinstance(definition, Workflow):
                self._put(self.workflows, definition)
            self.modules.add(definition.fn.__module__)

    def _put(self, table: dict[str, Any], definition: Definition[..., Any]) -> None:
        held = table.get(definition.name)
        if held is not None and _identity(held.fn) != _identity(definition.fn):
            raise DuplicateName(definition.kind, definition.name, held.where, definition.where)
        table[definition.name] = definition

    def resolve(self) -> None:
        """Resolve all annotations now: later, what is told of them may be muted by a replay."""
        for definition in (*self.workflows.values(), *self.steps.values()):
            definition.parameters.hints  # noqa: B018 - for its effect

    def subset(self, definitions: Iterable[object]) -> "Registry":
        """Return a registry of only these steps and workflows."""
        chosen = Registry()
        for definition in definitions:
            if not isinstance(definition, Definition):
                raise InvalidOption("workflows or steps", definition, "made by @workflow or @step")
            chosen.add(typing.cast("Definition[..., Any]", definition))
        return chosen


def _identity(fn: Callable[..., Any]) -> tuple[str, str]:
    return fn.__module__, fn.__qualname__


registry = Registry()
"""Everything that this process has decorated."""

on_workflow_module: list[Callable[[ModuleType], None]] = []
"""Called with the module of each workflow, once the module can be looked at."""


def _register(definition: Definition[..., Any]) -> None:
    registry.add(definition)
    know_module(definition.fn.__module__)


@overload
def workflow(fn: Callable[P, Coroutine[Any, Any, R]], /) -> Workflow[P, R]: ...
@overload
def workflow(
    *, name: str | None = None
) -> Callable[[Callable[P, Coroutine[Any, Any, R]]], Workflow[P, R]]: ...
def workflow(fn: Any = None, /, *, name: str | None = None) -> Any:
    """Make an `async def` function a workflow: it survives crashes, deploys and long waits.

    The body must only orchestrate: whatever touches the outside world belongs into a step.

    Raises:
        InvalidOption: the function is not `async def`.
        DuplicateName: another workflow has this name.
    """
    if fn is None:
        return partial(workflow, name=name)
    inner = _unwrap(fn)
    if not inspect.iscoroutinefunction(inner):
        raise InvalidOption("a workflow", inner, "an `async def` function")
    made: Workflow[..., Any] = Workflow(inner, name)
    made.takes_object = not isinstance(fn, staticmethod | classmethod)
    _register(made)
    return made


@overload
def step(fn: Callable[P, Coroutine[Any, Any, R]], /) -> Step[P, R]: ...
@overload
def step(fn: Callable[P, R], /) -> Step[P, R]: ...
@overload
def step(
    *,
    name: str | None = None,
    retry: int | Retry = ...,
    timeout: Duration | None = None,
    deadline: Duration | None = None,
    heartbeat: Duration | None = None,
    queue: str = "default",
    raises: Iterable[type[BaseException]] = (),
) -> "_StepDecorator": ...
def step(  # noqa: PLR0913 - a step has that many options
    fn: Any = None,
    /,
    *,
    name: str | None = None,
    retry: int | Retry = 3,
    timeout: Duration | None = None,
    deadline: Duration | None = None,
    heartbeat: Duration | None = None,
    queue: str = "default",
    raises: Iterable[type[BaseException]] = (),
) -> Any:
    """Make a function a step: called by a workflow, its result is recorded once.

    retry: retries after the first attempt (default 3), or a `Retry` policy.
    timeout: limit of one attempt. deadline: limit of all attempts, waits included.
    heartbeat: the attempt is lost when it says nothing for this long.
    queue: workers that serve it take the step (default `default`).
    raises: classes of exceptions that shall come back as themselves, beside builtins and those
    of the step's own module.

    Raises:
        InvalidOption: an option has a value that it cannot have.
        DuplicateName: another step has this name.
    """
    if fn is None:
        return partial(
            step, name=name, retry=retry, timeout=timeout, deadline=deadline,
            heartbeat=heartbeat, queue=queue, raises=raises,
        )  # fmt: skip
    options = step_options(
        retry=retry, timeout=timeout, deadline=deadline, heartbeat=heartbeat, queue=queue
    )
    made: Step[..., Any] = Step(_unwrap(fn), name, options)
    made.takes_object = not isinstance(fn, staticmethod | classmethod)
    for cls in classes_of("raises", raises):
        know_module(cls.__module__)
    _register(made)
    return made


class _StepDecorator(typing.Protocol):
    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> Step[P, R]: ...
    @overload
    def __call__(self, fn: Callable[P, R], /) -> Step[P, R]: ...
