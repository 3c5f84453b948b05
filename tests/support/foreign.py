"""JSON as no vendor would send it, with the names that a vendor uses."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

T = TypeVar("T", bound=Callable[..., None])


def foreign(names: str, texts: str = "") -> st.SearchStrategy[dict[str, Any]]:
    """Return objects whose keys are some of `names`, and whose texts are at times of `texts`."""
    keys = st.sampled_from(names.split())
    leaf = st.none() | st.booleans() | st.integers() | st.text()
    if texts:
        leaf = leaf | st.sampled_from(texts.split())
    flat = st.dictionaries(keys, leaf, max_size=3)
    deep = st.dictionaries(keys, leaf | flat | st.lists(flat, max_size=2), max_size=3)
    return st.dictionaries(keys, leaf | deep | st.lists(leaf | deep, max_size=2), max_size=4)


def few(test: T) -> T:
    """Run a test on few examples, however slow the machine is."""
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(max_examples=50, deadline=None, suppress_health_check=slow)(test)


def typed(
    types: Sequence[str], objects: st.SearchStrategy[dict[str, Any]]
) -> st.SearchStrategy[dict[str, Any]]:
    """Return such objects as events of these types."""

    def event(kind: str, fields: dict[str, Any]) -> dict[str, Any]:
        return fields | {"type": kind}

    return st.builds(event, st.sampled_from(types), objects)
