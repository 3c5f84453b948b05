"""`datetime` as a workflow's module sees it: the same class, but `now` is the logical time.

The class in the module `datetime` is never replaced: pickling of every datetime in the process
would break. A stand-in makes real datetimes, and is equal to the real class in every test but `is`.
"""

import copy
import copyreg
import datetime as dt
from _thread import get_ident
from collections.abc import Callable
from types import ModuleType
from typing import Any, Self, TypeVar

from .active import targets


class _Standin(type):
    """The class of the stand-ins; a subclass of a stand-in behaves like any subclass."""

    def __call__(cls, *args: object, **options: object) -> object:
        original = _original(cls)
        return (
            super().__call__(*args, **options) if original is None else original(*args, **options)
        )

    def __instancecheck__(cls, instance: object) -> bool:
        original = _original(cls)
        if original is None:
            return super().__instancecheck__(instance)
        return isinstance(instance, original)

    def __subclasscheck__(cls, subclass: type) -> bool:
        original = _original(cls)
        if original is None:
            return super().__subclasscheck__(subclass)
        return issubclass(subclass, original)

    def __eq__(cls, other: object) -> bool:
        return (_original(cls) or cls) is (_original(other) or other)

    def __hash__(cls) -> int:
        original = _original(cls)
        return super().__hash__() if original is None else hash(original)

    def __repr__(cls) -> str:
        return super().__repr__() if (original := _original(cls)) is None else repr(original)

    def __get_pydantic_core_schema__(
        cls, source: object, handler: Callable[[object], object]
    ) -> object:
        return handler(_original(source) or source)


_originals: dict[int, Any] = {}


def _original(cls: object) -> Any:  # noqa: ANN401  (a class of datetime, or None)
    return _originals.get(id(cls))


def _reduce(cls: _Standin) -> Any:  # noqa: ANN401  (what pickle takes: a name, or call and args)
    original = _original(cls)
    return cls.__qualname__ if original is None else (copy.copy, (original,))


copyreg.pickle(_Standin, _reduce)


def _now() -> int | None:
    if not targets:
        return None
    target = targets.get(get_ident())
    return None if target is None else target.now()


_T = TypeVar("_T", bound=dt.datetime)


def _at(cls: type[_T], now: int, tz: dt.tzinfo | None) -> _T:
    seconds, rest = divmod(now, 1_000_000)
    return cls.fromtimestamp(seconds, tz).replace(microsecond=rest)


# Outside of a body a stand-in asks the module, and late: a test tool may have frozen the clock
# there. A subclass asks its base, as it always did.
class _Datetime(dt.datetime, metaclass=_Standin):
    __slots__ = ()

    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> Self:
        now, original = _now(), _original(cls)
        if now is not None:
            shape: type[Self] = original or cls
            return _at(shape, now, tz)
        if original is None:
            return super().now(tz)
        return dt.datetime.now(tz)  # type: ignore[return-value]

    @classmethod
    def utcnow(cls) -> Self:
        now, original = _now(), _original(cls)
        if now is not None:
            shape: type[Self] = original or cls
            return _at(shape, now, dt.UTC).replace(tzinfo=None)
        if original is None:
            return super().utcnow()  # pyright: ignore[reportDeprecated]  (the user called it)
        return dt.datetime.utcnow()  # type: ignore[return-value]  # noqa: DTZ003

    @classmethod
    def today(cls) -> Self:
        now, original = _now(), _original(cls)
        if now is not None:
            shape: type[Self] = original or cls
            return _at(shape, now, None)
        if original is None:
            return super().today()
        return dt.datetime.today()  # type: ignore[return-value]  # noqa: DTZ002


class _Date(dt.date, metaclass=_Standin):
    __slots__ = ()

    @classmethod
    def today(cls) -> Self:
        now, original = _now(), _original(cls)
        if now is not None:
            return (original or cls).fromtimestamp(now / 1_000_000)
        if original is None:
            return super().today()
        return dt.date.today()  # type: ignore[return-value]  # noqa: DTZ011


def _dress(standin: Any, original: type) -> None:  # noqa: ANN401  (its attributes are set)
    _originals[id(standin)] = original  # both live as long as the process
    standin.__name__, standin.__qualname__ = original.__name__, original.__qualname__
    standin.__module__, standin.__doc__ = original.__module__, original.__doc__


_dress(_Datetime, dt.datetime)
_dress(_Date, dt.date)


class _Module(ModuleType):
    def __getattr__(self, name: str) -> object:
        return getattr(dt, name)

    def __dir__(self) -> list[str]:
        return dir(dt)


def standins(*, date: bool) -> list[tuple[object, object]]:
    """Return pairs of what a module may have imported and what stands in for it.

    With `date`, `datetime.date` gets a stand-in too; needed where its `today` is out of reach.
    """
    module = _Module("datetime", dt.__doc__)
    module.__dict__.update(__file__=getattr(dt, "__file__", None), __spec__=dt.__spec__)
    module.__dict__["datetime"] = _Datetime
    pairs: list[tuple[object, object]] = [(dt, module), (dt.datetime, _Datetime)]
    if date:
        module.__dict__["date"] = _Date
        pairs.append((dt.date, _Date))
    return pairs
