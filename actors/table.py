"""Which classes and references payloads may name: tables filled by registration, no imports."""

import sys
from collections import ChainMap
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from .errors import DuplicateName
from .errors_base import FACE, OffbookError

_HOMES = tuple(f"{__package__}.{name}" for name in ("errors", "errors_base", "errors_setup"))
_OWN = frozenset((FACE, *_HOMES))
"""By which modules bytes may name our errors: by that of the face, formerly by their own."""


@dataclass(slots=True, frozen=True)
class Entry:
    """A class with a name on the wire, and how its state is taken and given back.

    kind: a `type` stands for exactly its class, a `reference` for subclasses too.
    """

    kind: str
    name: str
    cls: type
    encode: Callable[[Any], Any] | None
    decode: Callable[[Any], Any] | None


class Table:
    """What payloads may name. A table with a parent adds to what the parent knows.

    The version of all tables grows with each registration: what was derived before is stale.
    """

    version = 0

    def __init__(self, parent: "Table | None" = None) -> None:
        self.named: ChainMap[tuple[str, str], Entry] = _below(parent.named if parent else None)
        self.by_class: ChainMap[type, Entry] = _below(parent.by_class if parent else None)
        self.modules: ChainMap[str, None] = _below(parent.modules if parent else None)

    def register(
        self,
        cls: type,
        name: str | None = None,
        encode: Callable[[Any], object] | None = None,
        decode: Callable[[Any], Any] | None = None,
    ) -> None:
        """Give a class a name on the wire, default `module.qualname`.

        Raises:
            DuplicateName: another class has the name.
        """
        self._add(Entry("type", name or _place(cls), cls, encode, decode))

    def extend(
        self,
        name: str,
        cls: type,
        to_plain: Callable[[Any], Any],
        from_plain: Callable[[Any], Any],
    ) -> None:
        """Let values of a class and its subclasses cross as references: a name and plain data.

        Raises:
            DuplicateName: another class has the name.
        """
        self._add(Entry("reference", name, cls, to_plain, from_plain))

    def _add(self, new: Entry) -> None:
        known = self.named.get((new.kind, new.name))
        # A reloaded module defines its classes again: the newer one takes the place.
        if known is not None and _place(known.cls) != _place(new.cls):
            raise DuplicateName(new.kind, new.name, _place(known.cls), _place(new.cls))
        self.named[new.kind, new.name] = new
        if new.kind == "type":
            self.by_class[new.cls] = new
        Table.version += 1

    def know_module(self, name: str) -> None:
        """Let the classes found in an imported module be resolved by name."""
        self.modules[name] = None

    def entry_of(self, cls: type) -> Entry | None:
        """Return how values of exactly this class are named, if they are."""
        references = (entry for entry in self.named.values() if entry.kind == "reference")
        return self.by_class.get(cls) or next(
            (entry for entry in references if issubclass(cls, entry.cls)), None
        )

    def key_of(self, cls: type) -> str:
        """Return how bytes name a class: `@` and its registered name, or `module:qualname`."""
        entry = self.by_class.get(cls)
        return f"@{entry.name}" if entry else f"{cls.__module__}:{cls.__qualname__}"

    def class_named(self, key: str) -> type | None:
        """Return the class that `key_of` named: registered, builtin, or in a known module.

        Exceptions of the standard library are known wherever their module is imported already.
        """
        if key.startswith("@"):
            entry = self.named.get(("type", key[1:]))
            return entry.cls if entry else None
        module, _, qualname = key.partition(":")
        if module in _OWN:
            return _own(qualname)
        found = _walk(sys.modules.get(module), qualname)
        if found is not None and _names(found, module, qualname):
            if module == "builtins" or module in self.modules:
                return found
            standard = module.partition(".")[0] in sys.stdlib_module_names
            if standard and issubclass(found, BaseException):
                return found
        return self._imported(module, qualname)

    def _imported(self, module: str, qualname: str) -> type | None:
        for name in list(self.modules):
            for value in list(vars(sys.modules.get(name, ModuleType(name))).values()):
                if isinstance(value, type) and _names(value, module, qualname):
                    return value
        return None


def _below(parent: "ChainMap[Any, Any] | None") -> ChainMap[Any, Any]:
    return ChainMap() if parent is None else parent.new_child()


def _walk(module: ModuleType | None, qualname: str) -> type | None:
    found: object = module
    for part in qualname.split("."):
        found = vars(found).get(part) if isinstance(found, type | ModuleType) else None
        if not isinstance(found, type):
            return None
    return found if isinstance(found, type) else None


def _own(qualname: str) -> type | None:
    classes = (_walk(sys.modules.get(home), qualname) for home in _HOMES)
    return next((cls for cls in classes if cls and issubclass(cls, OffbookError)), None)


def _names(cls: type, module: str, qualname: str) -> bool:
    return cls.__module__ == module and cls.__qualname__ == qualname


def _place(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


DEFAULT = Table()
