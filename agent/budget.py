"""How much an agent may use, and what happens when it is used up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from offbook import InvalidOption

from .messages import Usage

if TYPE_CHECKING:
    from .human import Human

_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Price:
    """What a million tokens cost; `cached` are those read from the vendor's cache."""

    input: float
    output: float
    cached: float | None = None

    def of(self, usage: Usage) -> float:
        """Return what usage costs."""
        cached = self.input if self.cached is None else self.cached
        fresh = usage.input - usage.cached
        paid = fresh * self.input + usage.cached * cached + usage.output * self.output
        return paid / _MILLION


@dataclass(frozen=True, slots=True)
class Budget:
    """The most that one call of an agent may use: tokens, or money by the prices of its models.

    It is looked at before each call of a model, so the last answer may go beyond it. `ask`: a
    person who may grant as much again; without one, the agent ends with the finish `budget`.
    """

    tokens: int | None = None
    cost: float | None = None
    prices: Mapping[str, Price] = field(default_factory=dict[str, Price])
    ask: Human | None = None

    def __post_init__(self) -> None:
        """Check it.

        Raises:
            InvalidOption: a limit is below 0, or is 0 where a person may grant as much again.
        """
        for name, limit in (("budget.tokens", self.tokens), ("budget.cost", self.cost)):
            if limit is not None and not limit >= 0:
                raise InvalidOption(name, limit, "0 or more")
            if limit == 0 and self.ask is not None:
                raise InvalidOption(name, limit, "more than 0: as much again is still nothing")


class Purse:
    """What is left of a budget."""

    def __init__(self, budget: Budget | None) -> None:
        self.budget = budget or Budget()
        self.usage = Usage()
        self.cost = 0.0
        self._grants = 1

    def check(self, model: str) -> None:
        """Make sure that what a model costs is known, before anything is paid for.

        Raises:
            InvalidOption: the budget is in money, and the model has no price.
        """
        if self.budget.cost is not None and model not in self.budget.prices:
            wanted = f"prices with one for the model {model!r}"
            raise InvalidOption("budget.prices", sorted(self.budget.prices), wanted)

    def pay(self, model: str, usage: Usage) -> None:
        """Take what a call of a model has used."""
        self.usage += usage
        price = self.budget.prices.get(model)
        if price is not None:
            self.cost += price.of(usage)

    @property
    def spent(self) -> str:
        """What is used up, in words; empty while something is left."""
        tokens, cost = self.budget.tokens, self.budget.cost
        if tokens is not None and self.usage.total >= tokens * self._grants:
            return f"{self.usage.total:,} tokens of {tokens * self._grants:,} are used"
        if cost is not None and self.cost >= cost * self._grants:
            return f"{self.cost:.4f} of {cost * self._grants:.4f} is spent"
        return ""

    def grant(self) -> None:
        """Allow as much again."""
        self._grants += 1
