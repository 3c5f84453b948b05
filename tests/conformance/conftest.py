"""Each test of the catalogue runs in six ways: `env` is an open world with one worker.

Always suspended on a server is what is drawn for a quarter of the tests, by the seed of the run:
`make test-catalogue` has all. The other five ways are always whole.
"""

import asyncio
import inspect
import os
import random
from collections.abc import Callable
from typing import Any

import pytest

from offbook.adapters.memory.time import VirtualLoop
from support.notes import forget_notes
from support.worlds import WAYS, CatalogueEnvironment, environment

SEALED_TOO = frozenset(
    {
        "test_gather_three_steps", "test_three_payloads_in_order", "test_read_from_start",
        "test_next_attempt_finds_the_detail", "test_child_from_workflow_signals_parent",
        "test_step_error_caught", "test_three_reply_modes", "test_kill_mid_step",
        "test_retained_token", "test_corrupt_record",
    }
)  # fmt: skip
"""Those that run with a cipher too, in memory and on a server; `make test-sealed` takes all."""


SHARE = 0.25
"""Of the tests that are also played always suspended on a server."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "env" in metafunc.fixturenames:
        sealed = ("memory-sealed", "server-sealed")
        ways = WAYS + (sealed if metafunc.function.__name__ in SEALED_TOO else ())
        metafunc.parametrize("env", ways, indirect=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if os.environ.get("OFFBOOK_CATALOGUE") == "full" or not config.pluginmanager.hasplugin(
        "randomly"
    ):
        return
    seed = config.getoption("randomly_seed", 0) or 0
    left = [item for item in items if _is_whole(item) or _lot(seed, item) < SHARE]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(left)])
    items[:] = left


def _is_whole(item: pytest.Item) -> bool:
    return "[server-suspend" not in item.name


def _lot(seed: int, item: pytest.Item) -> float:
    return random.Random(f"{seed} {item.nodeid}").random()


@pytest.fixture
def env(request: pytest.FixtureRequest) -> CatalogueEnvironment:
    """A world; it is open while the test runs."""
    way: str = request.param
    url = request.getfixturevalue("nats_url") if way.startswith("server") else None
    return environment(way, url, request.getfixturevalue("namespace"))


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    test = pyfuncitem.obj
    names = inspect.signature(test).parameters
    if not inspect.iscoroutinefunction(test) or "env" not in names:
        return None
    arguments: dict[str, Any] = {name: pyfuncitem.funcargs[name] for name in names}
    world: CatalogueEnvironment = arguments["env"]
    virtual = "[memory" in pyfuncitem.name
    with asyncio.Runner(loop_factory=VirtualLoop if virtual else None) as runner:
        runner.run(_inside(world, test, arguments))
    return True


async def _inside(
    env: CatalogueEnvironment, test: Callable[..., Any], arguments: dict[str, Any]
) -> None:
    forget_notes()
    async with env:
        await test(**arguments)
