"""How often one address may be wrong: a budget for each source, in bounded memory."""

import ipaddress
from collections import OrderedDict
from collections.abc import Callable

_SOURCES = 4096
_MINUTE = 60.0


class Guesses:
    """Counts wrong tokens by source; a source above its budget is told to wait.

    per_minute: the budget; it refills evenly. Those that were wrong longest ago are forgotten.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float]) -> None:
        self._most = float(per_minute)
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._left)

    def wrong(self, source: str) -> None:
        """Note a wrong token."""
        key = _key(source)
        self._left[key] = (self._budget(key) - 1, self._clock())
        self._left.move_to_end(key)
        if len(self._left) > _SOURCES:
            self._left.popitem(last=False)

    def wait(self, source: str) -> int:
        """Return the seconds that a source must wait: zero where it may go on."""
        left = self._budget(_key(source))
        if left >= 1:
            return 0
        return max(1, round((1 - left) * _MINUTE / self._most))

    def _budget(self, key: str) -> float:
        if key not in self._left:
            return self._most
        left, since = self._left[key]
        return min(self._most, left + (self._clock() - since) * self._most / _MINUTE)


def _key(source: str) -> str:
    """Return whom a budget belongs to: an address, or the network that a sender has in IPv6."""
    try:
        address = ipaddress.ip_address(source)
    except ValueError:
        return source[:64]
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is None:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return source
