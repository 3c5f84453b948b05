"""Time and randomness: logical and seeded inside a body, untouched everywhere else.

Dispatchers are bound methods, not functions: a plain function would bind when a class keeps it as
an attribute (`converter = time.localtime`), which the builtin that it stands for does not do.
"""

import copyreg
import datetime as dt
import os
import random
import time
import uuid
from _thread import get_ident
from collections.abc import Callable
from importlib import import_module
from types import BuiltinFunctionType, MethodType, ModuleType
from typing import Any

from .active import Target, enter, leave, targets
from .errors import SideEffectInWorkflow
from .instants import standins

origins: list["Origin"] = []
_captured: dict[int, tuple[object, object]] = {}


class Origin:
    """Where a dispatcher stands. It pickles as its module, so any process finds its own."""

    __slots__ = ("dispatcher", "module", "name", "real")

    def __init__(self, module: ModuleType, name: str) -> None:
        self.module, self.name = module, name
        self.real = getattr(module, name)
        self.dispatcher: object = None

    def __reduce__(self) -> tuple[Callable[[str], ModuleType], tuple[str]]:
        return import_module, (self.module.__name__,)


def bind(module: ModuleType, name: str, function: Callable[..., Any]) -> None:
    """Put a dispatcher in the place of `module.name`; its first parameter is not for callers."""
    origin = Origin(module, name)
    function.__module__ = module.__name__
    function.__name__ = function.__qualname__ = name
    function.__doc__ = origin.real.__doc__
    origin.dispatcher = MethodType(function, origin)
    origins.append(origin)
    _captured[id(origin.real)] = (origin.real, origin.dispatcher)
    setattr(module, name, origin.dispatcher)


def _reduce_builtin(function: BuiltinFunctionType) -> Any:  # noqa: ANN401  (what pickle takes)
    # Whoever imported it earlier still holds the builtin, which its module no longer does.
    origin = next((o for o in origins if o.real is function), None)
    return function.__reduce_ex__(2) if origin is None else (getattr, (origin, origin.name))


def install() -> None:
    """Put the dispatchers in place; a second call mends what a test tool put back."""
    if not origins:
        copyreg.pickle(BuiltinFunctionType, _reduce_builtin)
        _install_clocks()
        _install_random()
        _install_uuid()
        _capture_datetime()
    elif time.time is origins[0].real:
        for origin in origins:
            if getattr(origin.module, origin.name) is origin.real:
                setattr(origin.module, origin.name, origin.dispatcher)


def prepare_module(module: ModuleType) -> None:
    """Replace what `module` imported by name before `install`, in place; outside a body no change.

    Only names that hold the very objects of `time`, `random`, `os`, `uuid` and `datetime` change.
    """
    names = vars(module)
    for name, value in list(names.items()):
        found = _captured.get(id(value))
        if found is not None:
            names[name] = found[1]


def _active() -> Target | None:
    return targets.get(get_ident()) if targets else None


def _seconds(now: int) -> float:
    return now / 1_000_000


def _nanoseconds(now: int) -> int:
    return now * 1_000


def _clock(name: str, read: Callable[[int], float]) -> None:
    real = getattr(time, name)

    def dispatch(_: Origin) -> float:
        if targets:
            target = targets.get(get_ident())
            if target is not None:
                return read(target.now())
        return real()  # type: ignore[no-any-return]

    bind(time, name, dispatch)


def _clock_of(name: str, read: Callable[[int], float]) -> None:
    real = getattr(time, name)

    def dispatch(_: Origin, clock: int, /) -> float:
        target = _active()
        return real(clock) if target is None else read(target.now())

    bind(time, name, dispatch)


def _broken_down(name: str, before: int) -> None:
    """Dispatch a function of `time` that takes now when its argument `before` is left out."""
    real = getattr(time, name)
    to_struct = time.localtime if name in {"asctime", "strftime"} else None

    def dispatch(_: Origin, *args: object) -> object:
        target = _active()
        missing = len(args) <= before or (to_struct is None and args[before] is None)
        if target is None or not missing:
            return real(*args)
        now = _seconds(target.now())
        return real(*args[:before], to_struct(now) if to_struct else now)

    bind(time, name, dispatch)


def _install_clocks() -> None:
    for name in ("time", "monotonic", "perf_counter", "process_time", "thread_time"):
        if hasattr(time, name):
            _clock(name, _seconds)
            _clock(f"{name}_ns", _nanoseconds)
    if hasattr(time, "clock_gettime"):
        _clock_of("clock_gettime", _seconds)
        _clock_of("clock_gettime_ns", _nanoseconds)
    for name, before in (("asctime", 0), ("strftime", 1), ("ctime", 0)):
        _broken_down(name, before)
    for name in ("localtime", "gmtime"):
        _broken_down(name, 0)


_real_random = random.Random.random
_real_getrandbits = random.Random.getrandbits
_real_seed = random.Random.seed
_Seed = int | float | str | bytes | bytearray | None


class _Shared(random.Random):
    """The class of the generator behind `random.random()` and its siblings.

    Every captured function ends in one of these methods, looked up on the class at each call.
    """

    def random(self) -> float:
        target = _active()
        return _real_random(self) if target is None else target.random().random()

    def getrandbits(self, k: int, /) -> int:
        target = _active()
        return _real_getrandbits(self, k) if target is None else target.random().getrandbits(k)

    def seed(self, a: _Seed = None, version: int = 2) -> None:  # type: ignore[override]
        target = _active()
        if target is None:
            _real_seed(self, a, version)
        elif a is not None:
            target.random().seed(a, version)

    def getstate(self) -> tuple[Any, ...]:
        target = _active()
        return super().getstate() if target is None else target.random().getstate()

    def setstate(self, state: tuple[Any, ...]) -> None:
        target = _active()
        if target is None:
            super().setstate(state)
        else:
            target.random().setstate(state)

    @property
    def gauss_next(self) -> float | None:
        # `gauss` keeps every second number for later: it must not wander from run to run.
        target = _active()
        if target is None:
            return self.__dict__.get("gauss_next")
        return getattr(target.random(), "gauss_next", None)

    @gauss_next.setter
    def gauss_next(self, value: float | None) -> None:
        target = _active()
        if target is None:
            self.__dict__["gauss_next"] = value
        else:
            target.random().gauss_next = value  # type: ignore[attr-defined]

    def __reduce__(self) -> tuple[Any, ...]:
        return random.Random, (), self.getstate()


def _seed(self: random.Random, a: _Seed = None, version: int = 2) -> None:
    if a is None:
        target = _active()
        if target is not None:
            a = target.random().getrandbits(256)
    _real_seed(self, a, version)


def _install_random() -> None:
    shared: Any = getattr(random, "_inst")  # noqa: B009  (private, and so typed nowhere)
    shared.__class__ = _Shared
    _seed.__name__, _seed.__qualname__, _seed.__doc__ = "seed", "Random.seed", _real_seed.__doc__
    _seed.__module__ = "random"
    random.Random.seed = _seed  # type: ignore[method-assign]
    for name in ("random", "getrandbits", "seed", "getstate", "setstate"):
        _bind_shared(name, getattr(random, name), getattr(_Shared, name), shared)
    real = os.urandom

    def urandom(_: Origin, size: int, /) -> bytes:
        target = _active()
        return real(size) if target is None else target.random().randbytes(size)

    bind(os, "urandom", urandom)
    random._urandom = os.urandom  # type: ignore[attr-defined]  # noqa: SLF001  (SystemRandom's)


def _bind_shared(
    name: str, real: Callable[..., Any], inside: Callable[..., Any], shared: random.Random
) -> None:
    def dispatch(_: Origin, *args: object, **options: object) -> object:
        return inside(shared, *args, **options) if targets else real(*args, **options)

    bind(random, name, dispatch)


_GREGORIAN = 0x01B21DD213814000  # 100 ns intervals from 1582-10-15 to 1970-01-01


def _node(generator: random.Random) -> int:
    return generator.getrandbits(48) | 1 << 40


def logical_uuid1(
    target: Target, node: int | None = None, clock_seq: int | None = None
) -> uuid.UUID:
    """Return a version 1 UUID of the logical time; node and sequence are drawn each time."""
    ticks, generator = target.now() * 10 + _GREGORIAN, target.random()
    clock = generator.getrandbits(14) if clock_seq is None else clock_seq
    node = _node(generator) if node is None else node
    high = (ticks & 0xFFFFFFFF) << 32 | (ticks >> 32 & 0xFFFF) << 16 | ticks >> 48 & 0x0FFF
    return uuid.UUID(int=high << 64 | (clock & 0x3FFF) << 48 | node, version=1)


def logical_uuid6(
    target: Target, node: int | None = None, clock_seq: int | None = None
) -> uuid.UUID:
    """Return a version 6 UUID of the logical time."""
    ticks, generator = target.now() * 10 + _GREGORIAN, target.random()
    clock = generator.getrandbits(14) if clock_seq is None else clock_seq
    node = _node(generator) if node is None else node
    high = (ticks >> 12 & 0xFFFFFFFFFFFF) << 16 | 6 << 12 | ticks & 0x0FFF
    return uuid.UUID(int=high << 64 | 2 << 62 | (clock & 0x3FFF) << 48 | node)


def logical_uuid7(target: Target) -> uuid.UUID:
    """Return a version 7 UUID of the logical time."""
    generator = target.random()
    high = target.now() // 1000 << 16 | 7 << 12 | generator.getrandbits(12)
    return uuid.UUID(int=high << 64 | 2 << 62 | generator.getrandbits(62))


def _install_uuid() -> None:
    for name, inside in (
        ("uuid1", logical_uuid1),
        ("uuid6", logical_uuid6),
        ("uuid7", logical_uuid7),
    ):
        if hasattr(uuid, name):
            _bind_uuid(name, getattr(uuid, name), inside)


def _bind_uuid(name: str, real: Callable[..., Any], inside: Callable[..., Any]) -> None:
    def dispatch(_: Origin, *args: object, **options: object) -> object:
        target = _active()
        return real(*args, **options) if target is None else inside(target, *args, **options)

    bind(uuid, name, dispatch)


_EPOCH_YEAR = 1970


class _Epoch:
    replaying = False

    def now(self) -> int:
        return 0

    def random(self) -> random.Random:
        return random.Random(0)  # noqa: S311  (nothing is drawn from it)

    def refused(self, error: SideEffectInWorkflow) -> None:
        """Never called: nothing is refused here."""


def _capture_datetime() -> None:
    token = enter(_Epoch())
    try:
        reached = dt.date.today().year <= _EPOCH_YEAR  # noqa: DTZ011  (local, like the real one)
    finally:
        leave(token)
    for real, standin in standins(date=not reached):
        _captured[id(real)] = (real, standin)
