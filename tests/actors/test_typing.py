"""What type checkers see of the face; `make check` reads this, too."""

from typing import Any, assert_type

import pytest

from offbook import Run, workflow
from offbook.testing import Environment

pytestmark = pytest.mark.virtual


@workflow
async def count(number: int) -> list[str]:
    return ["x"] * number


async def test_a_handle_is_typed_by_its_workflow_and_plain_without() -> None:
    async with Environment() as env:
        run = await env.client.start(count, 2, id="typed")
        assert_type(run, Run[list[str]])
        assert_type(env.client.run("typed", count), Run[list[str]])
        plain = env.client.run("typed")
        assert_type(plain, Run[Any])
        # Of a result that is Never, checkers would take all that follows for unreachable.
        result = await plain.result()
        assert_type(result, Any)
        assert result == await run.result() == ["x", "x"]
