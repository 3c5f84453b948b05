"""`datetime` as a workflow's module sees it: the same class, but `now` is the logical time.

The class in the module `datetime` is never replaced: pickling of every datetime in the process
would break. A stand-in makes real datetimes, and is equal to the real class in every test but `is`.
"""

import copy
import copyreg
import datetime as _real
from _thread import get_ident
from types import ModuleType
from typing import Any

from .active import targets


class _Standin(type):
    """The class of the stand-ins; a subclass of a stand-in behaves like any subclass."""

    def __call__(cls, *args: Any, **options: Any) -> Any:
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

    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        return handler(_original(source) or source)


def _original(cls: object) -> type | None:
    return vars(cls).get("_offbook_original") if type(cls) is _Standin else None


def _reduce(cls: _Standin) -> Any:
    original = _original(cls)
    return cls.__qualname__ if original is None else (copy.copy, (original,))


copyreg.pickle(_Standin, _reduce)


def _now() -> int | None:
    if not targets:
        return None
    target = targets.get(get_ident())
    return None if target is None else target.now()


def _at(cls: Any, now: int, tz: _real.tzinfo | None) -> Any:
    seconds, rest = divmod(now, 1_000_000)
    return cls.fromtimestamp(seconds, tz).replace(microsecond=rest)


class _Datetime(_real.datetime, metaclass=_Standin):
    __slots__ = ()
    _offbook_original = _real.datetime

    @classmethod
    def now(cls, tz: _real.tzinfo | None = None) -> Any:
        now, original = _now(), _original(cls)
        if now is not None:
            return _at(original or cls, now, tz)
        # By the module, and late: a test tool may have frozen the clock there.
        return super().now(tz) if original is None else _real.datetime.now(tz)

    @classmethod
    def utcnow(cls) -> Any:
        now, original = _now(), _original(cls)
        if now is not None:
            return _at(original or cls, now, _real.UTC).replace(tzinfo=None)
        return super().utcnow() if original is None else _real.datetime.utcnow()  # noqa: DTZ003

    @classmethod
    def today(cls) -> Any:
        now, original = _now(), _original(cls)
        if now is not None:
            return _at(original or cls, now, None)
        return super().today() if original is None else _real.datetime.today()  # noqa: DTZ002


class _Date(_real.date, metaclass=_Standin):
    __slots__ = ()
    _offbook_original = _real.date

    @classmethod
    def today(cls) -> Any:
        now, original = _now(), _original(cls)
        if now is not None:
            return (original or cls).fromtimestamp(now / 1_000_000)  # type: ignore[attr-defined]
        return super().today() if original is None else _real.date.today()  # noqa: DTZ011


for _standin in (_Datetime, _Date):
    _like = _standin._offbook_original  # noqa: SLF001  (set ten lines up)
    _standin.__name__, _standin.__qualname__ = _like.__name__, _like.__qualname__
    _standin.__module__, _standin.__doc__ = _like.__module__, _like.__doc__


class _Module(ModuleType):
    def __getattr__(self, name: str) -> Any:
        return getattr(_real, name)

    def __dir__(self) -> list[str]:
        return dir(_real)


def standins(*, date: bool) -> list[tuple[object, object]]:
    """Return pairs of what a module may have imported and what stands in for it.

    With `date`, `datetime.date` gets a stand-in too; needed where its `today` is out of reach.
    """
    module = _Module("datetime", _real.__doc__)
    module.__dict__.update(__file__=getattr(_real, "__file__", None), __spec__=_real.__spec__)
    module.__dict__["datetime"] = _Datetime
    pairs: list[tuple[object, object]] = [(_real, module), (_real.datetime, _Datetime)]
    if date:
        module.__dict__["date"] = _Date
        pairs.append((_real.date, _Date))
    return pairs
