"""Exceptions over the wire: class, arguments, attributes, notes, causes, members, traceback.

One exception with all that hangs on it is a flat list of nodes, the first one is the exception
itself. Nodes name each other by index, so a cause that is the context too is stored once, and a
chain that bites its tail is no trouble. An exception is made by the `__new__` of its builtin
base and then given its state; no `__init__` ever runs.
"""

import os
import re
import traceback
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import GetSetDescriptorType, MemberDescriptorType
from typing import Annotated, Any, cast

import pydantic

from .errors import StepFailed
from .paths import class_of

NODES = 1_000
TREE = 10_000
FRAMES = 50
TEXT = 8_192

_HERE = f"{Path(__file__).parent}{os.sep}"
_AGAIN = "\nRaised again, in another process:\n"
_HEAP_TYPE = 1 << 9
_REMOTE = "remote_traceback"
# `obj` of AttributeError and NameError is a whole foreign object; the others are stored apart.
# Of builtin classes: stored apart, or (`obj`) a whole foreign object.
_SKIPPED = frozenset({"args", "obj", "exceptions", "message"})

# An address would make the same exception other bytes in each process.
_ADDRESS = re.compile(r" at 0x[0-9A-Fa-f]+")

Pack = Callable[[object], bytes]
Unpack = Callable[[bytes], Any]


class RemoteNote(str):
    """The note by which Python prints a remote traceback; it is not stored again."""

    __slots__ = ()


_Link = Annotated[int, pydantic.Field(ge=0)]


@pydantic.dataclasses.dataclass(slots=True, config={"strict": True})
class _Node:
    """What is stored of one exception; a stored value is bytes, or the index of another node."""

    key: str
    message: str
    args: list[bytes | _Link]
    attributes: dict[str, bytes | _Link]
    notes: list[str]
    cause: _Link | None
    context: _Link | None
    suppress: bool
    members: list[_Link]
    group: bool
    traceback: str

    def checked(self, count: int) -> "_Node":
        """Return this, if it fits among so many nodes."""
        stored = [*self.args, *self.attributes.values()]
        links = [x for x in (self.cause, self.context, *stored, *self.members) if type(x) is int]
        if any(link >= count for link in links) or any(map(_is_special, self.attributes)):
            raise ValueError("a broken node of a failure")
        return self


# To nodes


def encode(
    error: BaseException, pack: Pack, key_of: Callable[[type], str], *, local: bool
) -> list[list[Any]]:
    """Return an exception and all that hangs on it as plain nodes.

    What `pack` refuses is left out of the attributes, and is its text in the arguments. `local`
    adds the frames of this process; without them the same exception always gives the same nodes.
    """
    return _Writer(pack, key_of, local=local).nodes(error)


class _Writer:
    def __init__(self, pack: Pack, key_of: Callable[[type], str], *, local: bool) -> None:
        self._pack = pack
        self._key_of = key_of
        self._local = local
        self._errors: list[BaseException] = []
        self._index: dict[int, int] = {}

    def nodes(self, root: BaseException) -> list[list[Any]]:
        self._add(root)
        nodes: list[list[Any]] = []
        while len(nodes) < len(self._errors):
            nodes.append(self._node(self._errors[len(nodes)]))
        return nodes

    def _add(self, error: BaseException | None) -> int | None:
        if error is None:
            return None
        if id(error) not in self._index:
            if len(self._errors) >= NODES:
                return None
            self._index[id(error)] = len(self._errors)
            self._errors.append(error)
        return self._index[id(error)]

    def _node(self, error: BaseException) -> list[Any]:
        members = _members_of(error)
        indices = [i for i in map(self._add, members) if i is not None]
        notes = _notes_of(error)
        if len(indices) < len(members):
            notes.append(f"{len(members) - len(indices)} more exceptions were not stored")
        return [
            self._key_of(type(error)),
            text_of(error),
            [self._argument(x) for x in _arguments_of(error)],
            dict(self._attributes(error)),
            notes,
            self._add(error.__cause__),
            self._add(error.__context__),
            error.__suppress_context__,
            indices,
            isinstance(error, BaseExceptionGroup),
            _traceback_of(error, local=self._local),
        ]

    def _argument(self, value: object) -> bytes | int:
        stored = self._value(value)
        return self._pack(_shown(value)) if stored is None else stored

    def _attributes(self, error: BaseException) -> Iterator[tuple[str, bytes | int]]:
        for name, value in _state_of(error):
            stored = self._value(value)
            if stored is not None:
                yield name, stored

    def _value(self, value: object) -> bytes | int | None:
        if isinstance(value, BaseException):
            return self._add(value)
        try:
            return self._pack(value)
        except Exception:  # noqa: BLE001 - whatever cannot be stored is left out
            return None


def _members_of(error: BaseException) -> tuple[BaseException, ...]:
    if isinstance(error, BaseExceptionGroup):
        return cast("BaseExceptionGroup[BaseException]", error).exceptions
    return ()


def _arguments_of(error: BaseException) -> tuple[object, ...]:
    if isinstance(error, BaseExceptionGroup):
        return (cast("BaseExceptionGroup[BaseException]", error).message,)
    return error.args


def _notes_of(error: BaseException) -> list[str]:
    notes = getattr(error, "__notes__", None)
    if not isinstance(notes, list):
        return []
    return [
        _clean(note)
        for note in cast("list[object]", notes)
        if isinstance(note, str) and not isinstance(note, RemoteNote)
    ]


def _state_of(error: BaseException) -> Iterator[tuple[str, object]]:
    for name, value in error.__dict__.items():
        if name != _REMOTE and not _is_special(name):
            yield name, value
    for name, descriptor in slots_of(type(error)).items():
        try:
            value = descriptor.__get__(error, type(error))
        except Exception:  # noqa: BLE001, S112 - an empty slot, or one that cannot be read
            continue
        if value is not None or is_heap(descriptor.__objclass__):
            yield name, value


@cache
def slots_of(cls: Any) -> dict[str, MemberDescriptorType | GetSetDescriptorType]:  # noqa: ANN401 - a class
    """Return what a class holds outside of the `__dict__`, the slots of builtin bases among it."""
    return {
        name: value
        for base in reversed(cls.__mro__)
        for name, value in vars(base).items()
        if isinstance(value, MemberDescriptorType | GetSetDescriptorType)
        and not _is_special(name)
        and (name not in _SKIPPED or is_heap(base))
    }


def is_heap(cls: type) -> bool:
    """Tell whether Python code defined a class."""
    return bool(cls.__flags__ & _HEAP_TYPE)


def _is_special(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def text_of(error: BaseException) -> str:
    """Return the text of an exception; never fails."""
    try:
        return _ADDRESS.sub("", _clean(str(error)))[:TEXT]
    except Exception:  # noqa: BLE001 - a foreign __str__ may do anything
        return f"<{type(error).__name__} without text>"


def _shown(value: object) -> str:
    try:
        return _ADDRESS.sub("", _clean(repr(value)))[:TEXT]
    except Exception:  # noqa: BLE001 - a foreign __repr__ may do anything
        return f"<{type(value).__name__} object>"


def _clean(text: str) -> str:
    # Text with lone surrogates has no bytes; in a message their escapes are good enough.
    return str(text).encode("utf-8", "backslashreplace").decode()


def _traceback_of(error: BaseException, *, local: bool) -> str:
    remote = error.__dict__.get(_REMOTE)
    earlier = remote if isinstance(remote, str) else ""
    here = _frames_of(error) if local else ""
    if not earlier or not here:
        return _clean(here or earlier)
    origin = earlier.split(_AGAIN)[0]
    return _clean(f"{origin}{_AGAIN}{here}")


def _frames_of(error: BaseException) -> str:
    try:
        frames = traceback.extract_tb(error.__traceback__, limit=-FRAMES)
        users = [frame for frame in frames if not frame.filename.startswith(_HERE)]
        lines = traceback.StackSummary.from_list(users or list(frames)).format()
    except Exception:  # noqa: BLE001 - the report of an error must not fail by its decoration
        return ""
    return "".join(lines)[-TEXT:]


# From nodes


def decode(
    nodes: object, unpack: Unpack, resolve: Callable[[str], type | None], step: str
) -> BaseException:
    """Return the exception that `encode` took apart.

    A class that `resolve` does not give, or that refuses its state, becomes `StepFailed`.

    Raises:
        ValueError: the nodes are not what `encode` writes.
    """
    if not isinstance(nodes, list) or not nodes:
        raise ValueError("a failure without nodes")
    return _Reader(cast("list[list[Any]]", nodes), unpack, resolve, step).run()


class _Reader:
    def __init__(
        self,
        nodes: list[list[Any]],
        unpack: Unpack,
        resolve: Callable[[str], type | None],
        step: str,
    ) -> None:
        self._nodes = [_Node(*node).checked(len(nodes)) for node in nodes]
        self._unpack = unpack
        self._resolve = resolve
        self._step = step
        self._made: dict[int, BaseException] = {}
        self._sizes: dict[int, int] = {}
        self._making: set[int] = set()

    def run(self) -> BaseException:
        for i in range(len(self._nodes)):
            self._make(i)
        states = [self._filled(i, node) for i, node in enumerate(self._nodes)]
        for i, node in enumerate(self._nodes):
            self._proved(i, node, states[i])
        for i, node in enumerate(self._nodes):
            self._link(self._made[i], node)
        return self._made[0]

    def _make(self, i: int) -> BaseException:
        if i in self._made:
            return self._made[i]
        if i in self._making:
            raise ValueError("an exception group that contains itself")
        self._making.add(i)
        node = self._nodes[i]
        members = [self._make(m) for m in node.members]
        self._sizes[i] = 1 + sum(self._sizes[m] for m in node.members)
        if self._sizes[i] > TREE:
            raise ValueError("exception groups that share too many members")
        made = self._new(node, members) or self._failed(node)
        self._made[i] = made
        return made

    def _new(self, node: _Node, members: list[BaseException]) -> BaseException | None:
        cls = self._resolve(node.key)
        if node.group:
            # A group is made before what other arguments may point to.
            stored = node.args[0] if node.args else 0
            message = self._unpack(stored) if isinstance(stored, bytes) else ""
            return _new_group(cls, str(message), members) if members else None
        if cls is None or not issubclass(cls, BaseException):
            return None
        return _new_error(cls)

    def _failed(self, node: _Node) -> StepFailed:
        name = node.key.removeprefix("@").removeprefix("builtins:").replace(":", ".")
        return StepFailed(self._step, name, node.message, {}, node.traceback)

    def _filled(self, i: int, node: _Node) -> dict[str, Any]:
        error = self._made[i]
        state = dict(self._values(node))
        if self._is_real(error, node):
            if not node.group:
                error.args = tuple([self._value(x) for x in node.args])
            _give(error, state)
        return state

    def _proved(self, i: int, node: _Node, state: dict[str, Any]) -> None:
        error = self._made[i]
        if self._is_real(error, node):
            if _speaks(error):
                return
            error = self._made[i] = self._failed(node)
        if isinstance(error, StepFailed):
            error.attributes = state

    def _is_real(self, error: BaseException, node: _Node) -> bool:
        return isinstance(error, BaseExceptionGroup) or self._resolve(node.key) is type(error)

    def _values(self, node: _Node) -> Iterator[tuple[str, Any]]:
        for name, stored in node.attributes.items():
            yield name, self._value(stored)

    def _value(self, stored: bytes | int) -> Any:  # noqa: ANN401 - any value
        return self._unpack(stored) if isinstance(stored, bytes) else self._made[stored]

    def _link(self, error: BaseException, node: _Node) -> None:
        error.__cause__ = None if node.cause is None else self._made[node.cause]
        error.__context__ = None if node.context is None else self._made[node.context]
        error.__suppress_context__ = node.suppress
        for note in node.notes:
            error.add_note(note)
        if node.traceback:
            error.__dict__[_REMOTE] = node.traceback
            where = f" of step {self._step!r}" if self._step else ""
            error.add_note(RemoteNote(f"Remote traceback{where}:\n{node.traceback.rstrip()}"))


def _new_error(cls: type[BaseException]) -> BaseException | None:
    # The `__new__` of a class that Python code defines may want arguments that nobody kept.
    for base in cls.__mro__:
        if is_heap(base) or issubclass(cls, BaseExceptionGroup):
            continue
        try:
            return cast("BaseException", cast("Any", base).__new__(cls))
        except Exception:  # noqa: BLE001, S112 - not the base that lays out this class
            continue
    return None


def _new_group(
    cls: Any,  # noqa: ANN401 - a class of groups, another one, or None
    message: str,
    members: list[BaseException],
) -> BaseException | None:
    wanted = cls if cls is not None and BaseExceptionGroup in cls.__mro__ else None
    for kind in (wanted, BaseExceptionGroup):
        try:
            if kind is not None:
                return cast("BaseException", BaseExceptionGroup.__new__(kind, message, members))
        except Exception:  # noqa: BLE001, S112 - the plain group takes its place
            continue
    return None


def _give(error: BaseException, values: dict[str, Any]) -> None:
    slots = slots_of(type(error))
    for name, value in values.items():
        descriptor = slots.get(name)
        if descriptor is None:
            error.__dict__[name] = value
            continue
        try:
            descriptor.__set__(error, value)
        except Exception:  # noqa: BLE001, S112 - a slot that refuses its value stays empty
            continue


def _speaks(error: BaseException) -> bool:
    try:
        str(error)
    except Exception:  # noqa: BLE001 - a class that is broken without its __init__
        return False
    return True
