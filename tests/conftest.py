"""Runs `async def` tests: on a plain loop, or on virtual time with the marker `virtual`."""

import asyncio
import inspect
from typing import Any

import pytest

from offbook.adapters.memory.time import VirtualLoop

pytest_plugins = ["support.plugin"]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "virtual: run on the loop whose clock jumps when all wait")
    config.addinivalue_line("markers", "slow: takes seconds of real time")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take long: at the end no process is left alone with one."""
    long = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in long)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    test = pyfuncitem.obj
    if not inspect.iscoroutinefunction(test):
        return None
    names = inspect.signature(test).parameters
    arguments: dict[str, Any] = {name: pyfuncitem.funcargs[name] for name in names}
    with asyncio.Runner(loop_factory=_loop_factory(pyfuncitem)) as runner:
        runner.run(test(**arguments))
    return True


def _loop_factory(item: pytest.Function) -> type[VirtualLoop] | None:
    if item.get_closest_marker("virtual") is None:
        return None
    return VirtualLoop
