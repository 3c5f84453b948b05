"""What adapters keep beside the runs."""

from collections.abc import Collection

from offbook.actors.names import check_name

from .server import check_size

Store = dict[str, dict[str, bytes]]


class MemoryShelves:
    """Fills the port `Shelves`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def prepare(self) -> None:
        """See the port."""

    async def put(self, shelf: str, key: str, data: bytes, *, once: bool = False) -> None:
        """See the port."""
        check_size(f"{shelf}.{key}", len(data))
        values = self._store.setdefault(check_name("shelf", shelf), {})
        if not (once and key in values):
            values[_checked(key)] = bytes(data)

    async def get(self, shelf: str, keys: Collection[str]) -> dict[str, bytes]:
        """See the port."""
        values = self._store.get(check_name("shelf", shelf), {})
        return {key: values[key] for asked in keys for key in _under(values, _checked(asked))}

    async def keys(self, shelf: str, under: str = "") -> list[str]:
        """See the port."""
        values = self._store.get(check_name("shelf", shelf), {})
        return sorted(_under(values, _checked(under)))

    async def remove(self, shelf: str, key: str = "") -> None:
        """See the port."""
        values = self._store.get(check_name("shelf", shelf), {})
        for name in _under(values, _checked(key)):
            del values[name]
        if not values:
            self._store.pop(shelf, None)

    async def names(self) -> list[str]:
        """See the port."""
        return sorted(self._store)


def _checked(key: str) -> str:
    for token in key.rstrip(".").split(".") if key else ():
        check_name("key", token)
    return key


def _under(values: dict[str, bytes], key: str) -> list[str]:
    if key and not key.endswith("."):
        return [key] if key in values else []
    return [name for name in values if name.startswith(key)]
