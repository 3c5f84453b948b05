"""Which index each chunk of a channel has, as chunks come and are withdrawn."""

from .fold import Key


class Positions:
    """Counts what a reader has been shown. Only chunks that may be withdrawn are remembered."""

    def __init__(self) -> None:
        self.count = 0
        self._ranges: dict[Key, list[tuple[int, int]]] = {}

    def add(self, key: Key, count: int, *, settled: bool) -> int:
        """Return the index of the first of the next chunks of a source."""
        index = self.count
        self.count += count
        if not settled:
            ranges = self._ranges.setdefault(key, [])
            if ranges and ranges[-1][1] == index:
                ranges[-1] = ranges[-1][0], self.count
            else:
                ranges.append((index, self.count))
        return index

    def settle(self, key: Key) -> None:
        """The chunks of a source stay."""
        self._ranges.pop(key, None)

    def withdraw(self, key: Key) -> tuple[int, ...]:
        """Return the indices of a source's chunks; what came after them moves up."""
        gone = self._ranges.pop(key, [])
        removed = tuple(index for start, stop in gone for index in range(start, stop))
        self.count -= len(removed)
        for other, ranges in self._ranges.items():
            self._ranges[other] = [_moved(gone, span) for span in ranges]
        return removed


def _moved(gone: list[tuple[int, int]], span: tuple[int, int]) -> tuple[int, int]:
    before = sum(stop - start for start, stop in gone if stop <= span[0])
    return span[0] - before, span[1] - before
