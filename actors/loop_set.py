"""Sets that keep the order of insertion, for what asyncio walks while a workflow runs."""

from collections.abc import Iterable, Iterator, MutableSet
from collections.abc import Set as AbstractSet
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class OrderedSet(MutableSet[T], Generic[T]):
    """A set that is walked in the order in which its members came."""

    __slots__ = ("_members",)
    __hash__ = None  # type: ignore[assignment] # as every mutable set

    def __init__(self, members: Iterable[T] = ()) -> None:
        self._members = dict.fromkeys(members)

    def __repr__(self) -> str:
        return f"OrderedSet({list(self._members)})"

    def __contains__(self, member: object) -> bool:
        return member in self._members

    def __iter__(self) -> Iterator[T]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def add(self, value: T) -> None:
        """Put a member at the end, where it is not in yet."""
        self._members[value] = None

    def discard(self, value: T) -> None:
        """Take a member out, where it is in."""
        self._members.pop(value, None)

    def pop(self) -> T:
        """Take the oldest member out.

        Raises:
            KeyError: there is none.
        """
        for member in self._members:
            del self._members[member]
            return member
        raise KeyError("pop from an empty set")

    def copy(self) -> "OrderedSet[T]":
        """Return another set with the same members."""
        return OrderedSet(self._members)

    def update(self, *others: Iterable[T]) -> None:
        """Add all members of others."""
        for other in others:
            self._members.update(dict.fromkeys(other))

    def union(self, *others: Iterable[T]) -> "OrderedSet[T]":
        """Return a set of the members of this and all others."""
        made = self.copy()
        made.update(*others)
        return made

    def difference(self, *others: Iterable[Any]) -> "OrderedSet[T]":
        """Return a set of the members that are in none of the others."""
        gone = {member for other in others for member in other}
        return OrderedSet(member for member in self._members if member not in gone)

    def intersection(self, *others: Iterable[Any]) -> "OrderedSet[T]":
        """Return a set of the members that are in all of the others."""
        sets = [set(other) for other in others]
        return OrderedSet(m for m in self._members if all(m in other for other in sets))

    def issubset(self, other: Iterable[Any]) -> bool:
        """Return whether all members are in the other."""
        return set(self._members) <= set(other)

    def issuperset(self, other: Iterable[Any]) -> bool:
        """Return whether all of the other's members are in."""
        return all(member in self._members for member in other)

    def symmetric_difference(self, other: Iterable[T]) -> AbstractSet[T]:
        """Return a set of the members that are in one of the two only."""
        return self ^ OrderedSet(other)
