"""The timers of one run while it is in memory: they ring here, or the server holds them."""

import asyncio

from .env import Host
from .soonest import Soonest


class Alarms:
    """Rings timers by posting fires; knows which of them the server holds for us."""

    def __init__(self, actor: Host) -> None:
        self._actor = actor
        self._rings: dict[str, tuple[int, asyncio.TimerHandle]] = {}
        self._order = Soonest()
        self._unarmed: dict[str, int] = {}
        self._armed: dict[str, int] = {}
        self._early: set[str] = set()

    def __repr__(self) -> str:
        return f"<Alarms {list(self._rings)} armed={list(self._armed)}>"

    def soon(self) -> bool:
        """Whether one rings so soon that it stays in memory, or came early from the server."""
        if self._early:
            return True
        horizon = self._now() + round(self._actor.env.settings.short_timer * 1e6)
        first = self._order.first()
        return first is not None and first <= horizon

    def hold(self, timer: str, due: int) -> None:
        """Keep the run here for a fire that came early: the server has the timer no more."""
        self._armed.pop(timer, None)
        self._early.add(timer)
        self.ring(timer, due)
        self._unarmed[timer] = due

    def ring(self, timer: str, due: int) -> None:
        """Ring in memory at that time, in microseconds since 1970."""
        known = self._rings.get(timer)
        if known is not None:
            if known[0] == due:
                return
            known[1].cancel()
        delay = max(0.0, (due - self._now()) / 1e6)
        loop = asyncio.get_running_loop()
        self._rings[timer] = (due, loop.call_later(delay, self._rung, timer))
        self._order.set(timer, due)
        if self._armed.get(timer) != due:
            self._unarmed[timer] = due

    def _rung(self, timer: str) -> None:
        self._rings.pop(timer, None)
        self._order.drop(timer)
        self._unarmed.pop(timer, None)
        self._armed.pop(timer, None)
        self._early.discard(timer)
        self._actor.post("fire", {"timer": timer})

    def quiet(self, timer: str) -> None:
        """Ring no more."""
        self._early.discard(timer)
        self._order.drop(timer)
        self._unarmed.pop(timer, None)
        known = self._rings.pop(timer, None)
        if known is not None:
            known[1].cancel()

    def forget(self, timer: str) -> bool:
        """Ring no more; return whether the server may hold the timer for us or an earlier owner."""
        ours = timer in self._rings
        self.quiet(timer)
        return self._armed.pop(timer, None) is not None or not ours

    def unarmed(self) -> list[tuple[str, int]]:
        """Return the timers, with their times, that the server does not hold."""
        return list(self._unarmed.items())

    def armed(self, timer: str, due: int) -> None:
        """Note that the server holds a timer."""
        self._armed[timer] = due
        if self._unarmed.get(timer) == due:
            del self._unarmed[timer]

    def held(self) -> list[str]:
        """Return the timers that the server holds for us."""
        return list(self._armed)

    def clear(self) -> None:
        """Ring none of them."""
        for _, handle in self._rings.values():
            handle.cancel()
        self._rings.clear()
        self._order.clear()
        self._unarmed.clear()
        self._early.clear()

    def _now(self) -> int:
        return self._actor.env.backend.clock.now()
