"""The crash seam: a point before and after every call of every port, found by introspection."""

import dataclasses
import enum
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cache, partial
from typing import Any, Protocol, TypeVar, cast, get_args, get_origin, get_type_hints

from offbook.actors import ports
from offbook.actors.ports import Backend, Unsure

P = TypeVar("P")

PHASES = ("before", "lost", "after")
"""Not yet done; done, with the answer still to be lost; done and answered."""

_LOCAL = frozenset({"inbox.drained"})  # waits in the client and asks the server nothing
_QUIET = frozenset({"signals.say"})  # a lost connection is no error


class Action(enum.Enum):
    """What becomes of a call at a point."""

    GO = "go"
    CRASH = "crash"
    """The process dies: the call never returns."""
    UNSURE = "unsure"
    """The call raises Unsure: undone in the phase `before`, done in the phases after it."""


SeamHook = Callable[[str, str], Action]
"""Takes a point and a phase (see `PHASES`), and decides."""


class Gate(Protocol):
    """What stands between a port's caller and the server: `link.Link`."""

    async def call(self, point: str, op: Callable[[], Awaitable[Any]]) -> Any:  # noqa: ANN401
        """Carry a request to the server and its answer back."""
        ...

    async def local(self, point: str, op: Callable[[], Awaitable[Any]]) -> Any:  # noqa: ANN401
        """Do something that needs no request."""
        ...

    async def here(self) -> None:
        """Return where the process is alive; wait while it is paused, and for ever if dead."""
        ...

    def cast(self, point: str, op: Callable[[], None]) -> None:
        """Send something that has no answer."""
        ...


class _Kind(enum.Enum):
    CALL = enum.auto()
    ITERATOR = enum.auto()
    CONTEXT = enum.auto()
    CAST = enum.auto()
    READ = enum.auto()


@dataclasses.dataclass(frozen=True, slots=True)
class _Method:
    name: str
    kind: _Kind
    gives: type[Any] | None
    opens: bool


@cache
def _port_types() -> dict[str, type[Any]]:
    hints = get_type_hints(Backend)
    return {name: hint for name, hint in hints.items() if _is_port(hint)}


def _is_port(hint: object) -> bool:
    return isinstance(hint, type) and hint.__module__ == ports.__name__ and _is_protocol(hint)


def _is_protocol(hint: type[Any]) -> bool:
    return bool(getattr(hint, "_is_protocol", False))


_known: dict[type[Any], tuple[_Method, ...]] = {}


def _methods(protocol: type[Any]) -> tuple[_Method, ...]:
    if protocol not in _known:
        _known[protocol] = _find_methods(protocol)
    return _known[protocol]


def _find_methods(protocol: type[Any]) -> tuple[_Method, ...]:
    functions = (
        (name, function)
        for name, function in vars(protocol).items()
        if inspect.isfunction(function) and not name.startswith("_")
    )
    return tuple(_method(name, function) for name, function in functions)


def _method(name: str, function: Callable[..., Any]) -> _Method:
    result: object = get_type_hints(function)["return"]
    gives = result if isinstance(result, type) and _is_port(result) else None
    opens = gives is not None or get_origin(result) is _ABC_CALLABLE
    return _Method(name, _kind(function, result), gives, opens)


def _kind(function: Callable[..., Any], result: object) -> _Kind:
    if inspect.iscoroutinefunction(function):
        return _Kind.CALL
    if get_origin(result) is AsyncIterator:
        return _Kind.ITERATOR
    if get_origin(result) is AbstractAsyncContextManager:
        return _Kind.CONTEXT
    return _Kind.CAST if result is type(None) else _Kind.READ


class Seam:
    """A port, or what a port's method returned, with a point around each of its methods."""

    def __init__(self, name: str, protocol: type[Any], target: object, gate: Gate) -> None:
        self._name = name
        for method in _methods(protocol):
            setattr(self, method.name, _wrapped(f"{name}.{method.name}", method, target, gate))

    def __repr__(self) -> str:
        return f"<Seam of {self._name}>"


def _wrapped(point: str, method: _Method, target: object, gate: Gate) -> Callable[..., Any]:
    inner: Callable[..., Any] = getattr(target, method.name)
    if method.kind is _Kind.CALL:
        return _call(point, method, inner, gate)
    if method.kind is _Kind.ITERATOR:
        return _iterator(point, inner, gate)
    if method.kind is _Kind.CONTEXT:
        return _context(point, inner, gate)
    if method.kind is _Kind.CAST:
        return lambda *args, **kwargs: gate.cast(point, partial(inner, *args, **kwargs))
    return inner


def _call(point: str, method: _Method, inner: Callable[..., Any], gate: Gate) -> Callable[..., Any]:
    carry = gate.local if point in _LOCAL else gate.call
    gives = method.gives

    async def call(*args: object, **kwargs: object) -> object:
        op = partial(inner, *args, **kwargs)
        result = await (_opened(point, op, gate) if method.opens else carry(point, op))
        return result if gives is None else Seam(gives.__name__.lower(), gives, result, gate)

    async def quiet(*args: object, **kwargs: object) -> object:
        try:
            return await call(*args, **kwargs)
        except Unsure:
            return None

    return quiet if point in _QUIET else call


async def _opened(point: str, op: Callable[[], Awaitable[Any]], gate: Gate) -> Any:  # noqa: ANN401 - whatever the port returns
    """Carry a request that opens something; whoever never hears of it is not called by it."""
    opened: list[Any] = []
    forsaken = False

    def forsake() -> None:
        while forsaken and opened:
            each = opened.pop()
            getattr(each, "dropped", each)()

    async def remembered() -> object:
        result = await op()
        opened.append(result)
        forsake()
        return result

    try:
        result = await gate.call(point, remembered)
    except BaseException:
        forsaken = True
        forsake()
        raise
    getattr(result, "started", _nothing)()
    return result


def _nothing() -> None:
    return


def _iterator(point: str, inner: Callable[..., Any], gate: Gate) -> Callable[..., Any]:
    async def iterate(*args: object, **kwargs: object) -> AsyncGenerator[Any]:
        async def page() -> list[Any]:
            return [item async for item in inner(*args, **kwargs)]

        for item in await gate.call(point, page):
            yield item
            await gate.here()

    return iterate


def _context(point: str, inner: Callable[..., Any], gate: Gate) -> Callable[..., Any]:
    async def subscribed() -> None:
        return None

    @asynccontextmanager
    async def context(*args: object, **kwargs: object) -> AsyncGenerator[Callable[..., Any]]:
        async with inner(*args, **kwargs) as wait:
            await gate.call(point, subscribed)

            async def guarded(*args: object) -> object:
                found = await wait(*args)
                await gate.here()
                return found

            yield guarded

    return context


def sealed(name: str, target: P, gate: Gate) -> P:
    """Return a port of `Backend` with a point around each of its methods."""
    return cast("P", Seam(name, _port_types()[name], target, gate))


def all_points() -> list[str]:
    """Return every point `<port>.<method>` there is, from the protocols themselves.

    What a method returns has points under its own name (`inbox.close`, `tasksource.want`), and
    the calls that a delivery carries have them under its port's (`mail.ack`).
    """
    found = dict.fromkeys(_points("backend", Backend))
    for name, protocol in _port_types().items():
        found.update(dict.fromkeys(_points(name, protocol)))
    return list(found)


def _points(name: str, protocol: type[Any]) -> Iterator[str]:
    for method in _methods(protocol):
        if method.kind is not _Kind.READ:
            yield f"{name}.{method.name}"
        if method.gives is not None:
            yield from _points(method.gives.__name__.lower(), method.gives)
        for field in _carried(getattr(protocol, method.name)):
            yield f"{name}.{field}"


def _carried(function: Callable[..., Any]) -> Iterator[str]:
    """Yield the callables in the dataclasses that a callback of this function is given."""
    for hint in get_type_hints(function).values():
        if get_origin(hint) is not Callable and get_origin(hint) is not _ABC_CALLABLE:
            continue
        for argument in get_args(hint)[0]:
            if dataclasses.is_dataclass(argument):
                hints = get_type_hints(argument)
                yield from (n for n, h in hints.items() if get_origin(h) is _ABC_CALLABLE)


_ABC_CALLABLE = get_origin(Callable[[], None])
