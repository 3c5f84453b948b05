"""Which classes and references payloads may name: tables filled by registration, no imports."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from .errors import DuplicateName

# Modules of the standard library whose exceptions always resolve, where they are imported already.
_STANDARD = frozenset(
    {
        "asyncio.exceptions",
        "asyncio.queues",
        "binascii",
        "concurrent.futures._base",
        "configparser",
        "csv",
        "dataclasses",
        "_csv",
        "decimal",
        "email.errors",
        "graphlib",
        "http.client",
        "json.decoder",
        "queue",
        "_queue",
        "re",
        "shutil",
        "socket",
        "sqlite3",
        "ssl",
        "struct",
        "subprocess",
        "tarfile",
        "tomllib",
        "urllib.error",
        "xml.etree.ElementTree",
        "zipfile",
        "zlib",
        "zoneinfo._common",
    }
)
_OWN = frozenset(f"{__package__}.{name}" for name in ("errors", "errors_base", "errors_setup"))


@dataclass(slots=True, frozen=True)
class Registered:
    """A class with a name on the wire, and how its state is taken and given back."""

    name: str
    cls: type
    encode: Callable[[Any], object] | None
    decode: Callable[[Any], Any] | None


@dataclass(slots=True, frozen=True)
class Reference:
    """A class whose values are references, such as a step or a handle of a run."""

    name: str
    cls: type
    to_plain: Callable[[Any], Any]
    from_plain: Callable[[Any], Any]


class Table:
    """What payloads may name. A table with a parent adds to what the parent knows."""

    def __init__(self, parent: "Table | None" = None) -> None:
        self._parent = parent
        self._registered: dict[str, Registered] = {}
        self._by_class: dict[type, Registered] = {}
        self._references: dict[str, Reference] = {}
        self._modules: dict[str, None] = {}
        self.changes = 0

    @property
    def version(self) -> int:
        """A number that grows with each registration: what was derived before is stale."""
        return self.changes + (self._parent.changes if self._parent else 0)

    def register(
        self,
        cls: type,
        name: str | None,
        encode: Callable[[Any], object] | None,
        decode: Callable[[Any], Any] | None,
    ) -> None:
        """Give a class a name on the wire.

        Raises:
            DuplicateName: another class has the name.
        """
        wire = name or f"{cls.__module__}.{cls.__qualname__}"
        known = self.registered_named(wire)
        if known is not None and not _same(known.cls, cls):
            raise DuplicateName("type", wire, _place(known.cls), _place(cls))
        entry = Registered(wire, cls, encode, decode)
        self._registered[wire] = entry
        self._by_class[cls] = entry
        self.changes += 1

    def extend(
        self,
        name: str,
        cls: type,
        to_plain: Callable[[Any], Any],
        from_plain: Callable[[Any], Any],
    ) -> None:
        """Let values of a class and its subclasses cross as `name` and plain data.

        Raises:
            DuplicateName: another class has the name.
        """
        known = self.reference_named(name)
        if known is not None and not _same(known.cls, cls):
            raise DuplicateName("reference", name, _place(known.cls), _place(cls))
        self._references[name] = Reference(name, cls, to_plain, from_plain)
        self.changes += 1

    def know_module(self, name: str) -> None:
        """Let the classes found in an imported module be resolved by name."""
        self._modules[name] = None

    def registered_named(self, name: str) -> Registered | None:
        """Return what is registered under a name."""
        return self._registered.get(name) or (
            self._parent.registered_named(name) if self._parent else None
        )

    def registered_as(self, cls: type) -> Registered | None:
        """Return how exactly this class is registered; a subclass is another class."""
        return self._by_class.get(cls) or (
            self._parent.registered_as(cls) if self._parent else None
        )

    def reference_named(self, name: str) -> Reference | None:
        """Return the kind of reference with a name."""
        return self._references.get(name) or (
            self._parent.reference_named(name) if self._parent else None
        )

    def reference_as(self, cls: type) -> Reference | None:
        """Return the kind of reference that values of a class are."""
        for reference in self._references.values():
            if issubclass(cls, reference.cls):
                return reference
        return self._parent.reference_as(cls) if self._parent else None

    def key_of(self, cls: type) -> str:
        """Return how bytes name a class: `@` and its registered name, or `module:qualname`."""
        entry = self.registered_as(cls)
        return f"@{entry.name}" if entry else f"{cls.__module__}:{cls.__qualname__}"

    def class_named(self, key: str) -> type | None:
        """Return the class that `key_of` named, if it is registered or in a known module."""
        if key.startswith("@"):
            entry = self.registered_named(key[1:])
            return entry.cls if entry else None
        module, _, qualname = key.partition(":")
        if module == "builtins" or module in _OWN or self._knows(module):
            found = _walk(sys.modules.get(module), qualname)
            if found is not None and _names(found, module, qualname):
                return found
        return _standard(module, qualname) or self._imported(module, qualname)

    def _knows(self, module: str) -> bool:
        return module in self._modules or (self._parent is not None and self._parent._knows(module))  # noqa: SLF001 - a table like this one

    def _known(self) -> Iterator[str]:
        yield from list(self._modules)
        if self._parent:
            yield from self._parent._known()  # noqa: SLF001 - a table like this one

    def _imported(self, module: str, qualname: str) -> type | None:
        for name in self._known():
            for value in list(vars(sys.modules.get(name, ModuleType(name))).values()):
                if isinstance(value, type) and _names(value, module, qualname):
                    return value
        return None


def _standard(module: str, qualname: str) -> type | None:
    if module not in _STANDARD:
        return None
    found = _walk(sys.modules.get(module), qualname)
    return found if found is not None and issubclass(found, BaseException) else None


def _walk(module: ModuleType | None, qualname: str) -> type | None:
    found: object = module
    for part in qualname.split("."):
        found = vars(found).get(part) if isinstance(found, type | ModuleType) else None
        if not isinstance(found, type):
            return None
    return found if isinstance(found, type) else None


def _names(cls: type, module: str, qualname: str) -> bool:
    return cls.__module__ == module and cls.__qualname__ == qualname


def _same(one: type, other: type) -> bool:
    # A reloaded module defines its classes again: the newer one takes the place.
    return one is other or _names(one, other.__module__, other.__qualname__)


def _place(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


DEFAULT = Table()
