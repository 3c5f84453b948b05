"""How often, how long, how large: the options of steps and the settings of workers."""

import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, cast

from .errors import InvalidOption
from .names import check_name
from .values import aware, flag, whole

_MOST = 1_000_000
Duration = timedelta | float | int
"""A span of time: a timedelta, or seconds."""


LONGEST = 200 * 365.25 * 86400
"""The longest span of time, in seconds: clocks that count nanoseconds in 64 bits end in 2262."""


def seconds(field: str, value: object) -> float:
    """Return a duration in seconds.

    Raises:
        InvalidOption: it is no duration, or it is negative, or longer than `LONGEST`.
    """
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise InvalidOption(field, value, "a timedelta or seconds")
    if not 0 <= value <= LONGEST:
        raise InvalidOption(field, value, "zero or more and at most 200 years")
    return float(value)


def micros(field: str, value: object, now: int) -> int:
    """Return the time that a duration from `now`, or an aware datetime, means.

    Raises:
        InvalidOption: the datetime is naive, the value is neither, or too far away.
    """
    if isinstance(value, datetime):
        found = round(aware(field, value).timestamp() * 1_000_000)
        if found - now > LONGEST * 1_000_000:
            raise InvalidOption(field, value, "at most 200 years from now")
        return found
    return now + round(seconds(field, value) * 1_000_000)


UNSET: Any = object()
"""Stands for an option that was left out, where None means something."""

FOR_EVER = -1.0
"""The stored retention of a run that is never removed."""


def retention_of(value: object) -> float | None:
    """Return the seconds that `retention=` means: None where it was left out.

    Raises:
        InvalidOption: it is no duration and not None, or it is negative.
    """
    if value is UNSET:
        return None
    return FOR_EVER if value is None else seconds("retention", value)


@dataclass(frozen=True, slots=True)
class Retry:
    """When a failed step is tried again.

    `attempts` counts all of them; the delay before attempt n + 1 is `first * factor ** (n - 1)`,
    at most `maximum`, changed by up to `jitter` of itself at random. `on` and `never` are classes
    of exceptions (one, or several): what is not in `on`, or is in `never`, is final.

    Raises:
        InvalidOption: one of them has a value that it cannot have.
    """

    attempts: int = 4
    first: Duration = 1.0
    factor: float = 2.0
    maximum: Duration = 60.0
    jitter: float = 0.1
    on: type[BaseException] | Iterable[type[BaseException]] = (Exception,)
    never: type[BaseException] | Iterable[type[BaseException]] = ()

    def __post_init__(self) -> None:
        if not _within(self.attempts, 1, _MOST) or self.attempts % 1:
            expected = "a whole number, 1 or more and at most 1,000,000"
            raise InvalidOption("retry.attempts", self.attempts, expected)
        if not _within(self.factor, 1, sys.float_info.max):
            raise InvalidOption("retry.factor", self.factor, "a finite number, 1 or more")
        if self.factor > _MOST:
            object.__setattr__(self, "factor", float(self.factor))
        if not _within(self.jitter, 0, 1):
            raise InvalidOption("retry.jitter", self.jitter, "a number between 0 and 1")
        seconds("retry.first", self.first)
        seconds("retry.maximum", self.maximum)
        object.__setattr__(self, "on", classes_of("retry.on", self.on))
        object.__setattr__(self, "never", classes_of("retry.never", self.never))

    def delay(self, attempt: int, noise: float) -> float:
        """Return the seconds to wait after `attempt` failed; `noise` is between -1 and 1."""
        base = seconds("maximum", self.maximum)
        with suppress(OverflowError):
            grown = float(self.factor) ** min(attempt - 1, 64)
            base = min(seconds("first", self.first) * grown, base)
        return base * (1 + self.jitter * noise)

    def covers(self, error: BaseException) -> bool:
        """Return whether the policy tries again after this exception."""
        on, never = cast("Any", self.on), cast("Any", self.never)
        return isinstance(error, on) and not isinstance(error, never)


def classes_of(field: str, value: object) -> tuple[type[BaseException], ...]:
    """Return the classes of exceptions that an option names: one, or several.

    Raises:
        InvalidOption: it is something else.
    """
    given: Any = value
    found: tuple[Any, ...] = (given,)
    if isinstance(value, Iterable) and not isinstance(value, type):
        found = tuple(given)
    for cls in found:
        if not (isinstance(cls, type) and issubclass(cls, BaseException)):
            raise InvalidOption(field, given, "a class of exceptions, or several")
    return found


def _within(value: object, least: float, most: float) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return least <= value <= most


def retry_of(value: object) -> Retry:
    """Return the policy that `retry=` means: a number counts retries after the first attempt."""
    if isinstance(value, Retry):
        return value
    if isinstance(value, int) and _within(value, 0, _MOST - 1):
        return Retry(attempts=value + 1)
    raise InvalidOption("retry", value, "a number of retries (0 to 999,999) or a Retry")


@dataclass(frozen=True, slots=True)
class StepOptions:
    """The options of a step. Times in seconds; None is no limit."""

    retry: Retry = Retry()
    timeout: float | None = None
    deadline: float | None = None
    heartbeat: float | None = None
    queue: str = "default"

    @property
    def limited(self) -> bool:
        """Whether an attempt must end in time."""
        return not self.timeout is self.deadline is self.heartbeat is None

    def to_wire(self) -> dict[str, Any]:
        """Return what differs from the defaults, as plain data (`on` and `never` stay home)."""
        wire: dict[str, Any] = {
            name: getattr(self, name) for name in _LIMITS if getattr(self, name) is not None
        }
        retry = self.retry
        policy = (
            retry.attempts,
            seconds("first", retry.first),
            retry.factor,
            seconds("maximum", retry.maximum),
            retry.jitter,
        )
        if policy != _DEFAULT_POLICY:
            wire["retry"] = list(policy)
        return wire

    @classmethod
    def from_wire(cls, wire: dict[str, Any], queue: str = "default") -> "StepOptions":
        """Return the options that `to_wire` wrote."""
        if not wire:
            return _plain(queue)
        known = {name: wire[name] for name in _LIMITS if name in wire}
        options = cls(queue=queue, **known)
        if "retry" not in wire:
            return options
        attempts, first, factor, maximum, jitter = wire["retry"]
        return replace(options, retry=Retry(attempts, first, factor, maximum, jitter))


def step_options(
    *,
    retry: int | Retry = 3,
    timeout: Duration | None = None,
    deadline: Duration | None = None,
    heartbeat: Duration | None = None,
    queue: str = "default",
) -> StepOptions:
    """Return the options of a step, checked.

    Raises:
        InvalidOption, InvalidName: one has a value that it cannot have.
    """
    return StepOptions(
        retry=retry_of(retry),
        timeout=None if timeout is None else seconds("timeout", timeout),
        deadline=None if deadline is None else seconds("deadline", deadline),
        heartbeat=None if heartbeat is None else seconds("heartbeat", heartbeat),
        queue=check_name("queue", queue),
    )


_LIMITS = ("timeout", "deadline", "heartbeat")
_DEFAULT_POLICY = (4, 1.0, 2.0, 60.0, 0.1)


@lru_cache(maxsize=256)
def _plain(queue: str) -> StepOptions:
    """Return the options of a step that names a queue at most."""
    return StepOptions(queue=queue)


@dataclass(frozen=True, slots=True)
class Settings:
    """What a worker can be told. Times in seconds (or timedeltas), sizes in bytes.

    short_timer: timers up to this length are kept in memory by the owner of the run.
    lease: time to live of the worker's lease; a dead worker's runs move after it.
    grace: how long a drain waits for steps, and a cancelled step may take to end.
    idle: a run that waits leaves memory after this time. Zero: after every turn.
    inline_limit: payloads above it go to the blob store. total_limit: typed error above it.
    record_limit: records above it keep their body in the blob store.
    poison: a run whose owners died this often while it alone was active is blocked.
    blocked_loop: a workflow body that holds the event loop longer is stopped and parked; a step
    that does is named in the log.
    retention: how long an ended run is kept, unless its start says otherwise.
    last_look: it is kept at least so long, that those who wait for its end may read it.
    strict_ids: keep the id of a removed run taken for ever.

    Raises:
        InvalidOption: one of them has a value that it cannot have.
    """

    short_timer: float = 5.0
    lease: float = 3.0
    grace: float = 30.0
    idle: float = 2.0
    inline_limit: int = 256 * 1024
    total_limit: int = 64 * 1024 * 1024
    record_limit: int = 768 * 1024
    poison: int = 2
    blocked_loop: float = 2.0
    retention: float | None = 7 * 86400.0
    last_look: float = 10.0
    strict_ids: bool = True
    summary_delay: float = 0.5
    gc_interval: float = 60.0

    def __post_init__(self) -> None:
        for name in _TIMES:
            value = getattr(self, name)
            if value is not None or name != "retention":
                object.__setattr__(self, name, seconds(name, value))
        for name in ("lease", "gc_interval", "blocked_loop"):
            if not getattr(self, name):
                raise InvalidOption(name, getattr(self, name), "more than 0 seconds")
        for name, least in _SIZES.items():
            whole(name, getattr(self, name), least, 2**40)
        flag("strict_ids", self.strict_ids)


_TIMES = (
    *("short_timer", "lease", "grace", "idle", "blocked_loop", "retention", "last_look"),
    *("summary_delay", "gc_interval"),
)
_SIZES = {"inline_limit": 0, "total_limit": 1, "record_limit": 1, "poison": 1}


def check_settings(field: str, value: object) -> Settings:
    """Return settings.

    Raises:
        InvalidOption: it is something else.
    """
    if isinstance(value, Settings):
        return value
    raise InvalidOption(field, value, "made by offbook.Settings(…)")
