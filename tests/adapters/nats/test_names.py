"""The names of a namespace, without a server."""

import pytest

from offbook.actors.errors import InvalidName
from offbook.actors.names import partition_of
from offbook.actors.ports import Namespace
from offbook.adapters.nats.names import Names, reads


@pytest.fixture
def names() -> Names:
    return Names(Namespace("ns", partitions=16, shards=4))


def test_a_run_lives_in_the_shard_of_its_partition(names: Names) -> None:
    partition = partition_of("r1", 16)
    shard = partition % 4
    assert names.log_stream("r1") == f"KV_ns_log{shard}"
    assert names.log_prefix("r1") == f"$KV.ns_log{shard}.{partition}.r1.".encode()
    assert names.growth("r1") == f"ns.evt.{partition}.r1.>"


def test_the_kind_and_the_partition_of_mail_stand_in_its_subject(names: Names) -> None:
    partition = partition_of("r1", 16)
    assert names.mailbox("blue", "r1", "hook") == f"ns.mail.blue.{partition}.r1.hook".encode()
    assert names.mail_of("blue", 3) == "ns.mail.blue.3.>"
    assert names.mail_of("blue") == "ns.mail.blue.>"


def test_settling_moves_runs_to_the_stored_number_of_partitions(names: Names) -> None:
    assert names.log_prefix("r2") != b"$KV.ns_log0.0.r2."
    names.settle(Namespace("ns", partitions=1, shards=1))
    assert names.log_prefix("r2") == b"$KV.ns_log0.0.r2."


@pytest.mark.parametrize("bad", ["", "a.b", "*", ">", "a b", "a\r\nPUB x", "x" * 129, "ä"])
def test_a_token_that_could_change_a_subject_is_refused(names: Names, bad: str) -> None:
    calls = (
        lambda: names.log_prefix(bad),
        lambda: names.mailbox(bad, "r", "k"),
        lambda: names.mailbox("l", bad, "k"),
        lambda: names.mailbox("l", "r", bad),
        lambda: names.mail_of(bad),
        lambda: names.fired(bad, "r"),
        lambda: names.fired_of(bad),
        lambda: names.timer("r", bad),
        lambda: names.timers_of(bad),
        lambda: names.task(bad, "q", "r", "s", 1),
        lambda: names.task("d", bad, "r", "s", 1),
        lambda: names.later("d", "q", bad, "s", 1),
        lambda: names.attempt("d", "q", "r", bad, 1),
        lambda: names.attempts(bad, "s"),
        lambda: names.tasks_of("d", bad),
        lambda: names.blob("r", bad, 0),
        lambda: names.blobs_of(bad),
        lambda: names.signal(bad),
        lambda: names.worker(bad),
        lambda: names.owner(bad, 0),
        lambda: names.reader(bad, 0, 1),
        lambda: names.queue_reader("d", bad),
    )
    for call in calls:
        if bad == "a.b" and call is calls[17]:
            continue
        with pytest.raises(InvalidName):
            call()


def test_a_topic_may_have_parts(names: Names) -> None:
    assert names.signal("run.cancel") == "ns.signal.run.cancel"
    with pytest.raises(InvalidName):
        names.signal("run..cancel")


def test_two_queues_never_share_a_consumer(names: Names) -> None:
    assert names.queue_reader("a-b", "c") != names.queue_reader("a", "b-c")
    long = names.queue_reader("a" * 128, "b" * 128)
    assert len(long) <= 255
    assert long != names.queue_reader("a" * 128, "b" * 127)


def test_a_reader_is_known_by_lane_and_partition(names: Names) -> None:
    name = names.reader("blue-2", 3, 77)
    assert name == "blue-2-3-77"
    assert reads(name, "blue-2", 3)
    assert not reads(name, "blue", 2)
    assert not reads(name, "blue-2", 77)
    assert not reads("blue-2-3", "blue-2", 3)
