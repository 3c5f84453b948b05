"""What a worker is told, by itself or by its client."""

import pytest

from offbook import InvalidOption, Settings, Worker
from offbook.testing import Environment


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
