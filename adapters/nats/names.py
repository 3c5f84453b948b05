"""Every subject, stream, bucket and consumer name of a namespace. Pure: no I/O.

A token that comes from outside is checked here and nowhere else: the server stores a literal `*`
or `>` as a subject without a word.
"""

import hashlib
from functools import lru_cache

from offbook.actors.names import check_name, check_topic, group_of, partition_of
from offbook.actors.ports import Channel, Namespace

_RUNS = 2048
"""Runs whose subjects are kept."""
CONSUMER_NAME_MAX = 200
"""Consumer names above this are hashed: the server takes 255 characters."""


class Names:
    """The names of one namespace. `settle` fixes the settings once the server told them."""

    def __init__(self, namespace: Namespace) -> None:
        check_name("namespace", namespace.name)
        self.settle(namespace)

    def settle(self, namespace: Namespace) -> None:
        """Take the settings that the server has stored."""
        self.namespace = namespace
        self.root = namespace.name
        self.log_prefix = lru_cache(maxsize=_RUNS)(self._log_prefix)
        self.mail_prefix = lru_cache(maxsize=_RUNS)(self._mail_prefix)

    def partition(self, run: str) -> int:
        """Return the partition of a run, after a check of its id."""
        return partition_of(check_name("run", run), self.namespace.partitions)

    # Streams and buckets.

    @property
    def settings(self) -> str:
        """The bucket of the namespace's own settings."""
        return f"{self.root}_settings"

    @property
    def leases(self) -> str:
        """The bucket of worker leases and partition owners."""
        return f"{self.root}_leases"

    @property
    def mail(self) -> str:
        """The stream of messages to runs."""
        return f"{self.root}_mail"

    @property
    def timers(self) -> str:
        """The stream of pending timers and of their fires."""
        return f"{self.root}_timers"

    @property
    def steps(self) -> str:
        """The stream of step tasks."""
        return f"{self.root}_steps"

    @property
    def blobs(self) -> str:
        """The stream of large payloads."""
        return f"{self.root}_blobs"

    @property
    def out(self) -> str:
        """The stream of what runs write."""
        return f"{self.root}_out"

    @property
    def topics(self) -> str:
        """The stream of the topics that have no stream of their own."""
        return f"{self.root}_topics"

    @property
    def shelves(self) -> str:
        """The stream of what adapters keep beside the runs; it is made when it is needed."""
        return f"{self.root}_shelves"

    def channel_stream(self, channel: Channel) -> str:
        """Return the stream that holds a channel."""
        if channel.run:
            return self.out
        group = group_of(channel.name)
        return self.group(group) if group else self.topics

    def group(self, name: str) -> str:
        """Return the stream of a topic group."""
        return f"{self.topics}_{check_name('group', name)}"

    def table(self, name: str) -> str:
        """Return the bucket of a table: runs, hooks or deployments."""
        return f"{self.root}_{name}"

    def log_shard(self, shard: int) -> str:
        """Return the bucket of a shard of the log."""
        return f"{self.root}_log{shard}"

    def log_stream(self, run: str) -> str:
        """Return the stream that holds a run's log."""
        return f"KV_{self.log_shard(self.partition(run) % self.namespace.shards)}"

    # The subjects of the log.

    def _log_prefix(self, run: str) -> bytes:
        partition = self.partition(run)
        bucket = self.log_shard(partition % self.namespace.shards)
        return f"$KV.{bucket}.{partition}.{run}.".encode()

    def growth(self, run: str) -> str:
        """Return where new records of a run are announced."""
        return f"{self.root}.evt.{self.partition(run)}.{run}.>"

    # Those of mail and timers.

    def _mail_prefix(self, lane: str, run: str) -> bytes:
        check_name("lane", lane)
        return f"{self.root}.mail.{lane}.{self.partition(run)}.{run}.".encode()

    def mailbox(self, lane: str, run: str, kind: str) -> bytes:
        """Return the subject of one kind of mail to a run."""
        return self.mail_prefix(lane, run) + check_name("kind", kind).encode()

    def mail_of(self, lane: str, partition: int | None = None) -> str:
        """Return the filter of a lane's mail, or of one partition of it."""
        check_name("lane", lane)
        return f"{self.root}.mail.{lane}.{'' if partition is None else f'{partition}.'}>"

    @property
    def starts(self) -> str:
        """The filter of all start messages."""
        return f"{self.root}.mail.*.*.*.start"

    def timer(self, run: str, timer: str) -> str:
        """Return the subject of a pending timer."""
        return f"{self.root}.timer.{self.partition(run)}.{run}.{check_name('timer', timer)}"

    def timers_of(self, run: str) -> str:
        """Return the filter of all pending timers of a run."""
        return f"{self.root}.timer.{self.partition(run)}.{run}.>"

    def fired(self, lane: str, run: str) -> str:
        """Return the subject into which a run's timers fire."""
        check_name("lane", lane)
        return f"{self.root}.fired.{lane}.{self.partition(run)}.{run}"

    def fired_of(self, lane: str, partition: int | None = None) -> str:
        """Return the filter of a lane's fires, or of one partition of them."""
        check_name("lane", lane)
        return f"{self.root}.fired.{lane}.{'' if partition is None else f'{partition}.'}>"

    # Those of steps.

    def _attempt(self, deployment: str, queue: str, run: str, step: str, attempt: int) -> str:
        check_name("deployment", deployment)
        check_name("queue", queue)
        check_name("run", run)
        return f"{deployment}.{queue}.{run}.{check_name('step', step)}.{attempt:d}"

    def task(self, deployment: str, queue: str, run: str, step: str, attempt: int) -> str:
        """Return the subject of a queued attempt."""
        return f"{self.root}.task.{self._attempt(deployment, queue, run, step, attempt)}"

    def later(self, deployment: str, queue: str, run: str, step: str, attempt: int) -> str:
        """Return the subject of a delayed attempt."""
        return f"{self.root}.later.{self._attempt(deployment, queue, run, step, attempt)}"

    def attempt(self, deployment: str, queue: str, run: str, step: str, attempt: int) -> str:
        """Return the wildcard over an attempt, queued or delayed."""
        return f"{self.root}.*.{self._attempt(deployment, queue, run, step, attempt)}"

    def attempts(self, run: str, step: str, attempt: int | None = None) -> str:
        """Return the wildcard over a step in any queue: one attempt of it, or all."""
        number = "*" if attempt is None else f"{attempt:d}"
        check_name("run", run)
        return f"{self.root}.*.*.*.{run}.{check_name('step', step)}.{number}"

    def tasks_of(self, deployment: str, queue: str) -> str:
        """Return the filter of a queue's tasks."""
        check_name("deployment", deployment)
        return f"{self.root}.task.{deployment}.{check_name('queue', queue)}.>"

    # And the rest.

    def blob(self, run: str, digest: str, index: int) -> str:
        """Return the subject of one chunk."""
        check_name("run", run)
        return f"{self.root}.blob.{run}.{check_name('digest', digest)}.{index}"

    def blobs_of(self, run: str, digest: str | None = None) -> str:
        """Return the filter of a run's blobs, or of one of them."""
        check_name("run", run)
        inner = "" if digest is None else f"{check_name('digest', digest)}."
        return f"{self.root}.blob.{run}.{inner}>"

    def shelf(self, shelf: str, key: str = "") -> str:
        """Return the subject of a key of a shelf; without one, or with a dot at its end, a filter.

        The key is checked token by token.
        """
        below = not key or key.endswith(".")
        tokens = [check_name("key", token) for token in key.rstrip(".").split(".") if key]
        found = ".".join([self.root, "shelf", check_name("shelf", shelf), *tokens])
        return f"{found}.>" if below else found

    def channel(self, channel: Channel) -> str:
        """Return the subject of a run's output stream, or of a topic."""
        if not channel.run:
            return f"{self.root}.topic.{check_topic(channel.name)}"
        name = check_name("stream", channel.name)
        return f"{self.root}.out.{check_name('run', channel.run)}.{name}"

    def heard(self, channel: Channel) -> str:
        """Return where new messages of a channel are announced."""
        kind, _, rest = self.channel(channel).removeprefix(f"{self.root}.").partition(".")
        return f"{self.root}.heard.{kind}.{rest}"

    def out_of(self, run: str) -> str:
        """Return the filter of all output streams of a run."""
        return f"{self.root}.out.{check_name('run', run)}.>"

    def signal(self, topic: str) -> str:
        """Return the subject of a topic; a topic is one or more names with dots between."""
        for token in topic.split("."):
            check_name("topic", token)
        return f"{self.root}.signal.{topic}"

    def worker(self, worker: str) -> str:
        """Return the key of a worker's lease, as a subject."""
        return f"$KV.{self.leases}.worker.{check_name('worker', worker)}"

    def here(self, worker: str) -> str:
        """Return where a worker listens while it is connected; nothing is said there."""
        return f"{self.root}.here.{check_name('worker', worker)}"

    def owner(self, lane: str, partition: int) -> str:
        """Return the key that says who owns a partition, as a subject."""
        return f"$KV.{self.leases}.owner.{check_name('lane', lane)}.{partition:d}"

    # Consumers

    def reader(self, lane: str, partition: int, epoch: int) -> str:
        """Return the consumer name of an owner: `<lane>-<partition>-<epoch>`."""
        return f"{check_name('lane', lane)}-{partition:d}-{epoch:d}"

    def queue_reader(self, deployment: str, queue: str) -> str:
        """Return the consumer name that all workers of a queue share."""
        plain = f"{check_name('deployment', deployment)}={check_name('queue', queue)}"
        if len(plain) <= CONSUMER_NAME_MAX:
            return plain
        return hashlib.sha256(plain.encode()).hexdigest()


def reads(consumer: str, lane: str, partition: int) -> bool:
    """Return whether a consumer's name is that of an owner of this partition."""
    found, _, epoch = consumer.rpartition("-")
    return epoch.isdigit() and found == f"{lane}-{partition}"
