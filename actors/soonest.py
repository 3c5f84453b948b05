"""The first of many times, most of which are taken back before they come."""

from heapq import heapify, heappop, heappush

_SLACK = 64
"""Times that may lie about, taken back, before they are cleared away."""


class Soonest:
    """Names with times; the first one costs as good as nothing to know."""

    __slots__ = ("_heap", "_times")

    def __init__(self) -> None:
        self._times: dict[str, int] = {}
        self._heap: list[tuple[int, str]] = []

    def __repr__(self) -> str:
        return f"<Soonest {self.first()} of {len(self._times)}>"

    def set(self, name: str, time: int) -> None:
        """Give a name its time, or another one."""
        if self._times.get(name) == time:
            return
        self._times[name] = time
        heappush(self._heap, (time, name))
        if len(self._heap) > 2 * len(self._times) + _SLACK:
            self._heap = [(due, known) for known, due in self._times.items()]
            heapify(self._heap)

    def drop(self, name: str) -> None:
        """Take a name back."""
        self._times.pop(name, None)

    def clear(self) -> None:
        """Take all of them back."""
        self._times.clear()
        self._heap.clear()

    def first(self) -> int | None:
        """Return the first time."""
        heap = self._heap
        while heap:
            time, name = heap[0]
            if self._times.get(name) == time:
                return time
            heappop(heap)
        return None
