"""Fixtures that many tests share."""

from collections.abc import Iterator
from uuid import uuid4

import pytest

from support.servers import NatsServer


@pytest.fixture(scope="session")
def nats_server() -> Iterator[NatsServer]:
    """One server for all tests of a process that do not harm it."""
    with NatsServer() as server:
        yield server


@pytest.fixture
def nats_url(nats_server: NatsServer) -> str:
    """The address of the shared server."""
    return nats_server.url


@pytest.fixture
def namespace() -> str:
    """A namespace that no other test uses."""
    return f"t_{uuid4().hex[:12]}"
