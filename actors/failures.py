"""Exceptions over the wire: class, arguments, attributes, notes, causes, members, traceback.

One exception with all that hangs on it is a flat list of nodes, the first one is the exception
itself. Nodes name each other by index, so a cause that is the context too is stored once, and a
chain that bites its tail is no trouble. An exception is made by the `__new__` of its builtin
base and then given its state; no `__init__` ever runs.
"""

import contextlib
import os
import re
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import GetSetDescriptorType, MemberDescriptorType
from typing import Annotated, Any, cast

import pydantic

from .errors import StepFailed

NODES = 1_000
TREE = 10_000
FRAMES = 50
TEXT = 8_192

_HERE = f"{Path(__file__).parent}{os.sep}"
AGAIN = "\nRaised again, in another process:\n"
"""Between the frames of the process that raised first and of the one that raised again."""
_HEAP_TYPE = 1 << 9
_REMOTE = "remote_traceback"
# Of builtin classes: stored apart, or (`obj`) a whole foreign object.
_SKIPPED = frozenset({"args", "obj", "exceptions", "message"})

_ADDRESS = re.compile(r" at 0x[0-9A-Fa-f]+")

Pack = Callable[[object], bytes]
Unpack = Callable[[bytes], Any]
Resolve = Callable[[str], type | None]


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


class Writer:
    """One encode of an exception and all that hangs on it.

    What `pack` refuses is left out of the attributes, and is its text in the arguments. `local`
    adds the frames of this process; without them the same exception always gives the same nodes.
    """

    def __init__(self, pack: Pack, key_of: Callable[[type], str], *, local: bool) -> None:
        self._pack = pack
        self._key_of = key_of
        self._local = local
        self._errors: list[BaseException] = []
        self._index: dict[int, int] = {}

    def nodes(self, root: BaseException) -> list[list[Any]]:
        """Return an exception as plain nodes."""
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
        group: Any = error if BaseExceptionGroup in type(error).__mro__ else None
        members = group.exceptions if group else ()
        indices = [i for i in map(self._add, members) if i is not None]
        notes = _notes_of(error)
        if len(indices) < len(members):
            notes.append(f"{len(members) - len(indices)} more exceptions were not stored")
        state = ((name, self._value(x)) for name, x in attributes(error).items())
        return [
            self._key_of(type(error)),
            text_of(error),
            [self._argument(x) for x in ((group.message,) if group else error.args)],
            {k: stored for k, stored in state if stored is not None and k != _REMOTE},
            notes,
            self._add(error.__cause__),
            self._add(error.__context__),
            error.__suppress_context__,
            indices,
            group is not None,
            _traceback_of(error, local=self._local),
        ]

    def _argument(self, value: object) -> bytes | int:
        stored = self._value(value)
        return self._pack(text_of(value, repr)) if stored is None else stored

    def _value(self, value: object) -> bytes | int | None:
        if isinstance(value, BaseException):
            return self._add(value)
        try:
            return self._pack(value)
        except Exception:  # noqa: BLE001 - whatever cannot be stored is left out
            return None


def _notes_of(error: BaseException) -> list[str]:
    notes = getattr(error, "__notes__", None)
    if not isinstance(notes, list):
        return []
    texts = (note for note in cast("list[object]", notes) if isinstance(note, str))
    return [_clean(note) for note in texts if not isinstance(note, RemoteNote)]


def text_of(value: object, show: Callable[[object], str] = str) -> str:
    """Return the text of an exception or another value; never fails."""
    try:
        # An address would make the same exception other bytes in each process.
        return _ADDRESS.sub("", _clean(show(value)))[:TEXT]
    except Exception:  # noqa: BLE001 - a foreign __str__ may do anything
        return f"<{type(value).__name__} without text>"


def message_of(cancel: BaseException) -> str | None:
    """Return the message that a cancel was given, as text."""
    reason = cancel.args[0] if cancel.args else None
    return None if reason is None else text_of(reason)


def _clean(text: str) -> str:
    # Text with lone surrogates has no bytes; in a message their escapes are good enough.
    return str(text).encode("utf-8", "backslashreplace").decode()


def traceback_of(error: BaseException) -> str:
    """Return the frames of an exception as text, those of other processes first."""
    return _traceback_of(error, local=True)


def _traceback_of(error: BaseException, *, local: bool) -> str:
    remote = error.__dict__.get(_REMOTE)
    earlier = remote if isinstance(remote, str) else ""
    here = _frames_of(error) if local else ""
    if not earlier or not here:
        return _clean(here or earlier)
    return _clean(f"{earlier.split(AGAIN)[0]}{AGAIN}{here}")


def _frames_of(error: BaseException) -> str:
    try:
        frames = traceback.extract_tb(error.__traceback__, limit=-FRAMES)
        users = [frame for frame in frames if not frame.filename.startswith(_HERE)]
        lines = traceback.StackSummary.from_list(users or list(frames)).format()
    except Exception:  # noqa: BLE001 - the report of an error must not fail by its decoration
        return ""
    return "".join(lines)[-TEXT:]


# What objects hold, in their `__dict__` and in slots


def attributes(value: object) -> dict[str, Any]:
    """Return what an object holds."""
    state = {k: x for k, x in getattr(value, "__dict__", {}).items() if not _is_special(k)}
    for name, slot in _slots(cast("Any", type(value))).items():
        try:
            found = slot.__get__(value)
        except Exception:  # noqa: BLE001, S112 - an empty slot, or one that cannot be read
            continue
        if found is not None or _is_heap(slot.__objclass__):
            state[name] = found
    return state


def give(value: object, state: Any) -> None:  # noqa: ANN401 - foreign data
    """Give an object what `attributes` returned; no code of its class runs.

    Raises:
        ValueError: it is not what `attributes` returns.
    """
    if type(state) is not dict:
        raise ValueError("not the attributes of an object")
    slots = _slots(cast("Any", type(value)))
    for name, item in cast("dict[object, Any]", state).items():
        if not isinstance(name, str) or _is_special(name):
            raise ValueError(f"an attribute named {name!r}")
        if name in slots:
            # A slot that refuses its value stays empty.
            with contextlib.suppress(Exception):
                slots[name].__set__(value, item)
        else:
            value.__dict__[name] = item


@cache
def _slots(cls: Any) -> dict[str, MemberDescriptorType | GetSetDescriptorType]:  # noqa: ANN401 - a class
    return {
        name: slot
        for base in reversed(cls.__mro__)
        for name, slot in cast("dict[str, Any]", vars(base)).items()
        if isinstance(slot, MemberDescriptorType | GetSetDescriptorType)
        and not _is_special(name)
        and (_is_heap(base) or (issubclass(base, BaseException) and name not in _SKIPPED))
    }


def _is_heap(cls: type) -> bool:
    return bool(cls.__flags__ & _HEAP_TYPE)


def _is_special(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


# From nodes


def decode(nodes: object, unpack: Unpack, resolve: Resolve, step: str) -> BaseException:
    """Return the exception that a `Writer` took apart.

    A class that `resolve` does not give, or that refuses its state, becomes `StepFailed`.

    Raises:
        ValueError: the nodes are not what it writes.
    """
    if not isinstance(nodes, list) or not nodes:
        raise ValueError("a failure without nodes")
    return _Reader(cast("list[list[Any]]", nodes), unpack, resolve, step).run()


class _Reader:
    def __init__(self, nodes: list[list[Any]], unpack: Unpack, resolve: Resolve, step: str) -> None:
        self._nodes = [_Node(*node).checked(len(nodes)) for node in nodes]
        self._unpack = unpack
        self._resolve = resolve
        self._step = step
        self._made: dict[int, BaseException] = {}
        self._lost: dict[int, StepFailed] = {}
        self._sizes: dict[int, int] = {}

    def run(self) -> BaseException:
        for i in range(len(self._nodes)):
            self._make(i)
        states = [self._filled(i, node) for i, node in enumerate(self._nodes)]
        for i, node in enumerate(self._nodes):
            if i not in self._lost and not _speaks(self._made[i]):
                self._lose(i, node)
        for i, failed in self._lost.items():
            failed.attributes = states[i]
        for i, node in enumerate(self._nodes):
            self._link(self._made[i], node)
        return self._made[0]

    def _make(self, i: int) -> BaseException:
        if i in self._made:
            return self._made[i]
        if i in self._sizes:
            raise ValueError("an exception group that contains itself")
        self._sizes[i] = 1
        node = self._nodes[i]
        members = [self._make(m) for m in node.members]
        self._sizes[i] += sum(self._sizes[m] for m in node.members)
        if self._sizes[i] > TREE:
            raise ValueError("exception groups that share too many members")
        made = self._new(node, members)
        if made is None:
            return self._lose(i, node)
        self._made[i] = made
        return made

    def _new(self, node: _Node, members: list[BaseException]) -> BaseException | None:
        cls = self._resolve(node.key)
        if node.group:
            # A group is made before what other arguments may point to.
            stored = node.args[0] if node.args else 0
            message = self._unpack(stored) if isinstance(stored, bytes) else ""
            return _new_group(cls, str(message), members) if members else None
        return _new_error(cls) if cls is not None and issubclass(cls, BaseException) else None

    def _lose(self, i: int, node: _Node) -> StepFailed:
        name = node.key.removeprefix("@").removeprefix("builtins:").replace(":", ".")
        failed = StepFailed(self._step, name, node.message, {}, node.traceback)
        self._made[i] = self._lost[i] = failed
        return failed

    def _filled(self, i: int, node: _Node) -> dict[str, Any]:
        state = {name: self._value(stored) for name, stored in node.attributes.items()}
        if i not in self._lost:
            if not node.group:
                self._made[i].args = tuple([self._value(x) for x in node.args])
            give(self._made[i], state)
        return state

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
        if not _is_heap(base) and not issubclass(cls, BaseExceptionGroup):
            # Only the base that lays out this class can make one.
            with contextlib.suppress(Exception):
                return cast("BaseException", cast("Any", base).__new__(cls))
    return None


def _new_group(
    cls: Any,  # noqa: ANN401 - a class of groups, another one, or None
    message: str,
    members: list[BaseException],
) -> BaseException | None:
    wanted = cls if cls is not None and BaseExceptionGroup in cls.__mro__ else None
    for kind in (wanted, BaseExceptionGroup):
        # The plain group takes the place of one that refuses.
        with contextlib.suppress(Exception):
            if kind is not None:
                return cast("BaseException", BaseExceptionGroup.__new__(kind, message, members))
    return None


def _speaks(error: BaseException) -> bool:
    try:
        str(error)
    except Exception:  # noqa: BLE001 - a class that is broken without its __init__
        return False
    return True
