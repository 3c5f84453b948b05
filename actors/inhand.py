"""The mail of one run that its owner holds: unacked, so that it comes again if the owner dies."""

from collections.abc import Iterable
from dataclasses import replace

from .letters import outdated
from .ports import Delivery

Origin = tuple[str, int]


class InHand:
    """Mail that a turn may need yet, and mail that is done with.

    What is done with is kept as long as it must tie the run to its next owner: `settled` says that
    all is prepared for the time after it.
    """

    def __init__(self, kept: dict[Origin, Delivery] | None = None) -> None:
        self._held: dict[Origin, Delivery] = dict(kept or {})
        self._done: dict[Origin, None] = dict.fromkeys(self._held)
        self.settled = False

    def __len__(self) -> int:
        return len(self._held)

    @property
    def done(self) -> bool:
        """Whether anything is kept that is done with."""
        return bool(self._done)

    def take(self, delivery: Delivery) -> bool:
        """Hold mail; return whether it is new, and not held already."""
        known = delivery.origin in self._held
        self._held[delivery.origin] = delivery
        return not known

    def finish(self, deliveries: Iterable[Delivery]) -> None:
        """Note that these are recorded and their effects stand; of all keep the newest only."""
        self._done.update((delivery.origin, None) for delivery in deliveries)
        self.settled = False
        for origin in outdated(self._done):
            self.let_go(origin)

    def let_go(self, origin: Origin) -> None:
        """Ack mail."""
        self._done.pop(origin, None)
        delivery = self._held.pop(origin, None)
        if delivery is not None:
            delivery.ack()

    def let_all_go(self) -> None:
        """Ack all that is done with."""
        for origin in list(self._done):
            self.let_go(origin)

    def ties(self) -> dict[Origin, Delivery]:
        """Return what is held, as far as a later ack needs it."""
        return {origin: tie(delivery) for origin, delivery in self._held.items()}


def tie(delivery: Delivery) -> Delivery:
    """Return a delivery without its data."""
    return replace(delivery, data=b"", unseal=None)
