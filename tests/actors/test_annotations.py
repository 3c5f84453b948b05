"""Annotations of workflows and steps: each is resolved alone, and told of where it cannot be."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from offbook import step, workflow
from offbook.testing import Environment, run

if TYPE_CHECKING:
    from fractions import Fraction

    import pytest


@dataclass
class Order:
    id: int


def test_an_annotation_that_does_not_resolve_leaves_the_others_and_is_told_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    from fractions import Fraction as Tip  # noqa: PLC0415 - its module must not have it

    # Made here, because a worker of another test may resolve what the module has.
    @step(name="annotations.price", retry=0)
    async def price(order: Order, tip: Fraction | None = None) -> Order:
        assert isinstance(order, Order)
        return Order(order.id + (0 if tip is None else int(tip)))

    @workflow(name="annotations.buy")
    async def buy(order: Order, tip: Fraction | None = None) -> Order:
        found = await price(order, tip)
        assert isinstance(found, Order)
        return found

    async def main() -> None:
        async with Environment() as env:
            for tip in (None, Tip(3)):
                handle = await env.client.start(buy, Order(3), tip)
                assert await handle.result() == Order(3 if tip is None else 6)

    with caplog.at_level(logging.WARNING, "offbook"):
        run(main())
    told = [r.getMessage() for r in caplog.records if "cannot be resolved" in r.getMessage()]
    for definition in (price, buy):
        [line] = [text for text in told if text.startswith(f"{definition.name}: ")]
        assert "'tip'" in line
        assert "Fraction" in line
        assert list(definition.parameters.hints) == ["order", "return"]
