"""Mistakes in the making of an agent are told at once, with what to do."""

from typing import Any

import pytest

from offbook import InvalidOption, NotInRun
from offbook.agent import Agent, ChatOptions, Human
from offbook.agent.models import Scripted

model = Scripted(["Hi"])
first = Agent(model, name="o.first")


def made(name: str, **options: Any) -> Agent[str]:  # noqa: ANN401 - of an agent
    return Agent(options.pop("model", model), name=name, **options)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"model": "gpt-5"}, "model must be a `Model`"),
        ({"models": {"big": "gpt-5"}}, "models\\['big'\\] must be a `Model`"),
        ({"max_steps": -1}, "max_steps must be 0 or more"),
        ({"output_retries": -1}, "output_retries must be 0 or more"),
        ({"temperature": 0.3}, "callbacks are on_finish, on_start"),
        ({"on_strat": print}, "on_strat must be left out"),
        ({"on_start": "print"}, "on_start must be a function"),
        ({"tools": [first]}, "what as_tool\\(\\) returns"),
    ],
)
def test_what_an_agent_cannot_be_made_of(options: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidOption, match=told):
        made("o.wrong", **options)


def test_how_nobody_can_converse_or_be_asked() -> None:
    busy: Any = "ignore"
    with pytest.raises(InvalidOption, match="one of queue, interrupt, steer"):
        ChatOptions(busy=busy)
    with pytest.raises(InvalidOption, match="turns must be 1 or more"):
        ChatOptions(turns=0)
    with pytest.raises(InvalidOption, match="history must be 0 or more"):
        ChatOptions(history=-1)
    for timeout in (-1, float("nan")):
        with pytest.raises(InvalidOption, match="timeout must be 0 or more"):
            Human(timeout=timeout)
    with pytest.raises(InvalidOption, match="left out where there is a url"):
        Human(url="https://shop.example", token="ask:{run}")


def test_two_lines_cannot_make_agents_of_one_name() -> None:
    for _ in range(2):  # as a cell that runs again
        made("o.twice")
    Agent(model, name="o.once", instructions="Be quick.")
    with pytest.raises(InvalidOption, match=r"agent at line \d+ of test_odd_options\.py has it"):
        Agent(model, name="o.once", instructions="Be slow.")


async def test_a_call_outside_of_runs_says_what_it_wants() -> None:
    with pytest.raises(NotInRun, match="stream=None"):
        await first.run("Hi")
    with pytest.raises(InvalidOption, match="callbacks are"):
        await first.run("Hi", stream=None, temprature=0.3)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    assert (await first.run("Hi", stream=None)).text == "Hi"
