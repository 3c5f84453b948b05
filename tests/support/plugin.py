"""Fixtures that many tests share."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from support.servers import NatsServer

_MEMORY = Path("/dev/shm")
_ROOM_BYTES = 4 << 30


def _roomy_memory() -> Path | None:
    """Return a folder in memory, if there is one with room for the servers of all processes.

    Each test has a namespace of its own, and a disk takes seconds to forget thousands of them.
    """
    roomy = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _ROOM_BYTES
    return _MEMORY if roomy else None


@pytest.fixture(scope="session")
def nats_server() -> Iterator[NatsServer]:
    """One server for all tests of a process that do not harm it."""
    with NatsServer(base=_roomy_memory()) as server:
        yield server


@pytest.fixture
def nats_url(nats_server: NatsServer) -> str:
    """The address of the shared server."""
    return nats_server.url


@pytest.fixture
def namespace() -> str:
    """A namespace that no other test uses."""
    return f"t_{uuid4().hex[:12]}"
