"""Payloads: values to bytes and back, by runtime type on the way in, by annotation on the way out.

msgpack with a closed set of extension types. Standard types come back as themselves; dataclasses,
models and enums come back as plain data unless an annotation or `register` gives them their class.
Bytes never name anything that is not in a table, nothing is imported, no `__init__` of a stored
record runs.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar, cast, overload

import msgpack
import pydantic

from . import failures, wire
from .decoding import PlainUnpacking, Unpacking
from .encoding import Forms, Packing
from .errors import (
    FatalError,
    InvalidOption,
    NotSerializable,
    PayloadMismatch,
    PayloadTooLarge,
)
from .explain import Explainer
from .jsonable import jsonable
from .paths import joined
from .records import keeping_ranges
from .schema import check, schema_of
from .shape import Misfit
from .shapes import Shapes
from .table import DEFAULT, Table

C = TypeVar("C", bound=type)
Encode = Callable[[Any], object] | None
Decode = Callable[[Any], Any] | None

TOTAL_LIMIT = 64 * 2**20

_ATOM_RANGES = (0, 0x80), (0xA0, 0xC1), (0xC2, 0xC7), (0xCA, 0xD4), (0xD9, 0xDC), (0xE0, 0x100)
_ATOM_SIGNS = frozenset(sign for bounds in _ATOM_RANGES for sign in range(*bounds))
"""First bytes of what is a number, text, bytes, truth value or None in msgpack."""

_NO_ATOM = object()

_pack_atom = msgpack.Packer(buf_size=256).pack


def _atom_packed(value: object) -> bytes | None:
    """Return the bytes of a plain value, as any packing gives them; None where there are none."""
    try:
        packed: bytes = _pack_atom(value)
    except Exception:  # noqa: BLE001 - a number too large, half of a character: others say so
        return None
    return packed


class Codec:
    """Encodes and decodes payloads.

    `register`, `extend` and `know_module` are as those of this module, for this codec alone.

    total_limit: bytes that one payload may take, default 64 MiB.
    """

    def __init__(self, *, total_limit: int = TOTAL_LIMIT) -> None:
        self._limit = total_limit
        self._table = Table(DEFAULT)
        self._forms = Forms(self._table)
        self._shapes = Shapes(marked=False)
        self._marked = Shapes(marked=True)
        self.register = self._table.register
        self.extend = self._table.extend
        self.know_module = self._table.know_module

    def encode(self, value: object, path: str = "value") -> bytes:
        """Return the bytes of a value; `path` is what errors call it.

        Raises:
            NotSerializable: it, or something in it, has no stored form; the error names its path.
            PayloadTooLarge: it takes more bytes than the limit.
        """
        data = _atom_packed(value) if type(value) in wire.ATOMS else None
        if data is None:
            data = self._packed(value, path)
        if len(data) > self._limit:
            raise PayloadTooLarge(path, len(data), self._limit)
        return data

    def _packed(self, value: object, path: str) -> bytes:
        packing = Packing(self._forms)
        try:
            data = packing.pack(value)
            if packing.keyless:
                self._readable(data)
        except Exception as error:
            raise self._explained(value, path, error) from error
        return data

    def decode(self, data: bytes, annotation: Any = Any, path: str = "value") -> Any:  # noqa: ANN401 - an annotation is any object
        """Return a fresh value from bytes, with exactly the types of the annotation.

        Raises:
            PayloadMismatch: the bytes are damaged or foreign, or do not fit the annotation; the
                error names the path inside the value.
        """
        if data and data[0] in _ATOM_SIGNS:
            value = self._atom_or_not(data, annotation)
            if value is not _NO_ATOM:
                return value
        unpacking = Unpacking(self._table, self._restore)
        try:
            raw = unpacking.unpack(data)
            if annotation is Any:
                return wire.without_marks(raw) if unpacking.marked else raw
            shapes = self._marked if unpacking.marked else self._shapes
            shape = shapes.of(annotation)
            if type(raw) in shape.exact:
                return raw
            return keeping_ranges(lambda: shape.decode(raw), when=unpacking.wide)
        except Misfit as error:
            raise _mismatch(error, path) from error.__cause__
        except Exception as error:
            raise _mismatch(error, path) from error

    def atom(self, data: bytes, annotation: Any) -> Any:  # noqa: ANN401 - an annotation is any object
        """Return a number, text, bytes, truth value or None that is right as it is.

        Raises:
            ValueError, TypeError: it is none, or not of the annotated type: see `decode`.
        """
        value: object = msgpack.unpackb(data)
        known = type(value) in wire.ATOMS
        if known and (annotation is Any or type(value) in self._shapes.of(annotation).exact):
            return value
        raise TypeError("no atom")

    def _atom_or_not(self, data: bytes, annotation: Any) -> Any:  # noqa: ANN401 - as `atom`
        try:
            return self.atom(data, annotation)
        except Exception:  # noqa: BLE001 - whoever decodes it in earnest finds out why
            return _NO_ATOM

    def plain(self, data: bytes) -> Any:  # noqa: ANN401 - plain data of any shape
        """Return a payload as JSON can hold it, for people; no class of a user is needed.

        Raises:
            PayloadMismatch: the bytes are damaged or foreign.
        """
        try:
            return PlainUnpacking(self._table, self._restore).plain(data)
        except Exception as error:
            raise _mismatch(error, "value") from error

    def schema(self, annotation: Any) -> dict[str, Any] | None:  # noqa: ANN401 - an annotation is any object
        """Return the JSON Schema of a type; None where it says nothing or there is none."""
        return schema_of(annotation)

    def check_json(self, schema: dict[str, Any] | None, payload: object) -> None:
        """Check an encoded payload (bytes) or a value against a stored JSON Schema.

        Raises:
            HookRejected: it does not fit; the reason names the path.
            PayloadMismatch: the bytes are damaged or foreign.
        """
        if schema is None:
            return
        data = payload if isinstance(payload, bytes) else self.encode(payload, "payload")
        try:
            unpacking = PlainUnpacking(self._table, self._restore, named=False)
            value = jsonable(unpacking.clean(data), nan=True)
        except Exception as error:
            raise _mismatch(error, "payload") from error
        check(schema, value)

    def encode_error(self, error: BaseException, *, local: bool = True) -> bytes:
        """Return the bytes of an exception with its causes, members, notes and traceback.

        Never fails: what cannot be stored is left out. With `local` the frames of this process are
        added, so the bytes depend on files and lines; without it they are the same in every replay.
        """
        try:
            data = self._failure(error, local=local)
        except Exception:  # noqa: BLE001 - the report of an error must not become an error
            return self._failure(_stand_in(error), local=False)
        return data if len(data) <= self._limit else self._failure(_stand_in(error), local=False)

    def decode_error(self, data: bytes, step: str = "") -> BaseException:
        """Return the exception; `StepFailed` of `step` where its class is unknown here.

        Raises:
            PayloadMismatch: the bytes are not an exception.
        """
        try:
            error = Unpacking(self._table, self._restore, step).unpack(data)
        except Exception as damage:
            raise _mismatch(damage, "error") from damage
        if isinstance(error, BaseException):
            return error
        raise PayloadMismatch("error", "an exception", type(error).__name__)

    def _failure(self, error: BaseException, *, local: bool) -> bytes:
        packing = Packing(self._forms)
        return packing.pack(packing.failure(error, local=local))

    def _restore(self, cls: type, record: Any) -> Any:  # noqa: ANN401 - an instance
        if issubclass(cls, pydantic.RootModel):
            record = wire.Root((record,))
        return self._marked.of(cls).decode(record)

    def _readable(self, data: bytes) -> object:
        return PlainUnpacking(self._table, self._restore).unpack(data)

    def _explained(self, value: object, path: str, error: Exception) -> NotSerializable:
        return Explainer(self._forms, path, self._readable).explain(value, error)


def _stand_in(error: BaseException) -> FatalError:
    return FatalError(f"{type(error).__name__}: {failures.text_of(error)}")


def _mismatch(error: Exception, path: str) -> PayloadMismatch:
    if isinstance(error, PayloadMismatch):
        return error
    if isinstance(error, Misfit):
        return PayloadMismatch(joined(path, reversed(error.trail)), error.expected, error.found)
    if isinstance(error, RecursionError):
        return PayloadMismatch(path, "an encoded payload", "bytes that nest too deep")
    found = f"{type(error).__name__}: {failures.text_of(error)[:200]}"
    return PayloadMismatch(path, "an encoded payload", found)


@overload
def register(
    cls: C, /, *, name: str | None = ..., encode: Encode = ..., decode: Decode = ...
) -> C: ...
@overload
def register(
    *, name: str | None = ..., encode: Encode = ..., decode: Decode = ...
) -> Callable[[C], C]: ...
def register(
    cls: type | None = None,
    /,
    *,
    name: str | None = None,
    encode: Encode = None,
    decode: Decode = None,
) -> Any:
    """Let instances of a class, or an exception of it, cross by name; also a decorator.

    name: what bytes call the class, default `module.qualname`; give one if the class may move.
    encode, decode: to something storable and back; default: its fields or attributes, given back
        to an instance from `__new__`, without `__init__`. They go together.

    Raises:
        DuplicateName: another class has the name.
        InvalidOption: it is no class, or only one of encode and decode is given.
    """
    if (encode is None) != (decode is None):
        raise InvalidOption("encode and decode", encode or decode, "given both, or neither")
    if cls is None:
        return partial(register, name=name, encode=encode, decode=decode)
    if not isinstance(cls, type):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidOption("the registered object", cls, "a class")
    DEFAULT.register(cls, name, encode, decode)
    return cast("Any", cls)


extend = DEFAULT.extend
know_module = DEFAULT.know_module
