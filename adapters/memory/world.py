"""The world: the server that all backends of one process share."""

from collections.abc import Callable

from offbook.actors.errors import NamespaceMismatch
from offbook.actors.ports import Namespace

from .leases import LeaseStore
from .link import Link
from .log import LogStore
from .mail import MailStore, TimerStore
from .noise import Noise
from .outlets import ChannelStore
from .server import Server
from .tables import TableStore, Topics
from .tasks import TaskStore

MAIL_ACK_WAIT = 60.0
TASK_ACK_WAIT = 5.0


class Space:
    """Everything of one namespace."""

    def __init__(self, server: Server, namespace: Namespace, mail: float, task: float) -> None:
        self.namespace = namespace
        self.log = LogStore(server)
        self.leases = LeaseStore(server)
        self.mail = MailStore(server, namespace.partitions, mail, self.leases.epoch)
        self.timers = TimerStore(server, self.mail)
        self.tasks = TaskStore(server, task)
        self.topics = Topics()
        self.channels = ChannelStore(server)
        self.blobs: dict[str, dict[str, bytes]] = {}
        self.shelves: dict[str, dict[str, bytes]] = {}
        self.runs = TableStore(server, "runs")
        self.hooks = TableStore(server, "hooks")
        self.deployments = TableStore(server, "deployments")

    def snapshot(self) -> list[Callable[[], None]]:
        """Return what puts back all that is on the disk now."""
        blobs = {run: dict(found) for run, found in self.blobs.items()}

        def back() -> None:
            self.blobs.clear()
            self.blobs.update({run: dict(found) for run, found in blobs.items()})

        parts = (
            self.log, self.leases, self.mail, self.timers, self.tasks, self.channels, self.runs,
            self.hooks, self.deployments,
        )  # fmt: skip
        return [back, *(part.snapshot() for part in parts)]

    def boot(self) -> None:
        """Go on after a crash."""
        self.leases.boot()
        self.mail.boot()
        self.timers.boot()
        self.tasks.boot()


class World(Server):
    """A simulated server, shared by any number of backends in one process.

    All chance in it comes from `seed`, and its faults from `noise` (default: none). The waits are
    those of the real adapter: `mail_ack_wait` and `task_ack_wait` in seconds.
    """

    def __init__(
        self,
        seed: int = 0,
        noise: Noise | None = None,
        *,
        mail_ack_wait: float = MAIL_ACK_WAIT,
        task_ack_wait: float = TASK_ACK_WAIT,
    ) -> None:
        super().__init__(seed, noise)
        self._waits = mail_ack_wait, task_ack_wait
        self._spaces: dict[str, Space] = {}
        self._links: dict[Link, None] = {}
        self._synced: list[Callable[[], None]] = []

    def space(self, namespace: Namespace) -> Space:
        """Return a namespace, created at first sight.

        Raises:
            NamespaceMismatch: it exists with other settings.
        """
        space = self._spaces.get(namespace.name)
        if space is None:
            space = self._spaces[namespace.name] = Space(self, namespace, *self._waits)
        for setting in ("partitions", "shards", "replicas"):
            stored, asked = getattr(space.namespace, setting), getattr(namespace, setting)
            if stored != asked:
                raise NamespaceMismatch(namespace.name, setting, stored, asked)
        return space

    def join(self, link: Link) -> None:
        """Let a connection know of crashes of the server."""
        self._links[link] = None

    def leave(self, link: Link) -> None:
        """Let it know no more."""
        self._links.pop(link, None)

    def stop(self) -> None:
        """Kill the server: calls under way raise Unsure, done or not; later ones are not done."""
        if not self.up:
            return
        for link in list(self._links):
            link.sever()
        self.up = False
        for space in self._spaces.values():
            space.leases.halt()

    def start(self, *, forget_acks: bool = True) -> None:
        """Start it again on its data: unacked mail comes again, overdue timers fire.

        With `forget_acks`, some of the mail that was acked within the last 0.1 s is back too.
        """
        if self.up:
            return
        self.up = True
        for space in self._spaces.values():
            if forget_acks:
                space.mail.forget_acks()
            space.boot()

    def sync(self) -> None:
        """Put all that was acknowledged on the disk, for `lose`."""
        self._synced = [self.counted()]
        for space in self._spaces.values():
            self._synced += space.snapshot()

    def lose(self) -> None:
        """While stopped: lose what was acknowledged since `sync`, as in a power cut without fsync.

        Sequences go back too, so that they are given out again.
        """
        if self.up:
            raise RuntimeError("a server loses its tail in a power cut, and that stops it")
        for back in self._synced:
            back()

    def restart(self, *, forget_acks: bool = True) -> None:
        """Kill the server and start it again at once."""
        self.stop()
        self.start(forget_acks=forget_acks)
