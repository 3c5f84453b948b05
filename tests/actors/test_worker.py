"""What a worker is told, by itself or by its client."""

import socket
from enum import Enum

import pytest

import offbook
from offbook import InvalidOption, Settings, Worker, step, workflow
from offbook.actors.names import check_name
from offbook.testing import Environment


class Name(str, Enum):  # noqa: UP042 - one of StrEnum is formatted as its text
    """Texts that are formatted as something else."""

    QUEUE = "fast"
    RUN = "first"
    DEPLOYMENT = "blue"


@step(queue=Name.QUEUE)
async def quick() -> str:
    return "quick"


@workflow
async def quickly() -> str:
    return await quick()


async def test_names_may_be_members_of_an_enum(nats_url: str, namespace: str) -> None:
    async with (
        offbook.connect(nats_url, namespace=namespace, deployment=Name.DEPLOYMENT) as client,
        Worker(client, workflows=[quickly], steps=[quick], queues=[Name.QUEUE], eager=False),
    ):
        run = await client.start(quickly, id=Name.RUN)
        assert await run.result() == "quick"
        assert await client.run("first").status() == "completed"


async def test_a_worker_has_a_name_whatever_its_host_is_called(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "büro.example")
    worker = Worker(Environment().client)
    assert check_name("worker", worker.id).startswith("b_ro-")


async def test_a_worker_has_the_settings_of_its_client() -> None:
    client = Environment(settings=Settings(lease=7, grace=60, idle=1)).client
    assert Worker(client).settings == client.settings
    assert Worker(client, grace=5).settings == Settings(lease=7, grace=5, idle=1)


async def test_a_worker_with_settings_of_its_own_leaves_those_of_its_client_alone() -> None:
    client = Environment(settings=Settings(lease=7)).client
    assert Worker(client, settings=Settings(grace=1)).settings == Settings(grace=1)
    assert Worker(client, settings=Settings(grace=1), lease=9).settings.lease == 9
    assert client.settings == Settings(lease=7)


async def test_without_a_word_the_lease_is_three_seconds_and_the_grace_thirty() -> None:
    told = Worker(Environment().client).settings
    assert (told.lease, told.grace) == (3.0, 30.0)


async def test_a_negative_lease_is_refused() -> None:
    with pytest.raises(InvalidOption, match="lease"):
        Worker(Environment().client, lease=-1)
