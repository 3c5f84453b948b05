"""One suite for the ports, on the in-memory world in virtual time and on a real server."""

import pytest

from support.ports import Factory, MemoryFactory, NatsFactory


@pytest.fixture(params=[pytest.param("memory", marks=pytest.mark.virtual), "nats"])
def backend_factory(
    request: pytest.FixtureRequest, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> Factory:
    if request.param == "memory":
        return MemoryFactory()
    seconds = round(Factory.ack_wait)
    monkeypatch.setattr("offbook.adapters.nats.reader._ACK_WAIT_SECONDS", seconds)
    monkeypatch.setattr("offbook.adapters.nats.tasks._ACK_WAIT_SECONDS", seconds)
    return NatsFactory(request.getfixturevalue("nats_url"), namespace)
