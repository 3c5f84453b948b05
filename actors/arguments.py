"""Arguments of workflows and steps: from a call to a payload, and back by the annotations."""

from typing import TYPE_CHECKING, Any

import msgpack

from .errors import PayloadMismatch, PayloadTooLarge
from .model import unpack
from .options import Settings

if TYPE_CHECKING:
    from .codec import Codec
    from .define import Parameters

_LIMIT = Settings().total_limit


def encode_arguments(
    codec: "Codec", parameters: "Parameters", bound: dict[str, Any], limit: int = _LIMIT
) -> bytes:
    """Return the payload of arguments that `Parameters.bind` took: a map of encoded values.

    limit: bytes that all arguments together may take.

    Raises:
        NotSerializable: a value has no stored form; the error names its path.
        PayloadTooLarge: the arguments are above the limit.
    """
    encode = codec.encode
    packed: bytes = msgpack.packb({name: encode(value, name) for name, value in bound.items()})
    if len(packed) > limit:
        raise PayloadTooLarge(f"the arguments of {parameters.name}", len(packed), limit)
    return packed


def decode_arguments(codec: "Codec", parameters: "Parameters", data: bytes) -> dict[str, Any]:
    """Return the arguments by name, each decoded as its parameter is annotated.

    Raises:
        PayloadMismatch: a value does not fit its annotation, or the payload is not arguments.
    """
    fields = _fields(parameters.name, data)
    return {
        name: codec.decode(value, _annotation(parameters, name), name)
        for name, value in fields.items()
    }


def atoms(codec: "Codec", parameters: "Parameters", data: bytes) -> dict[str, Any] | None:
    """Return the arguments where each is a plain value just as annotated; else None.

    No code of the user runs for such values, and nothing is raised.
    """
    try:
        fields = _fields(parameters.name, data)
        return {
            name: codec.atom(value, _annotation(parameters, name)) for name, value in fields.items()
        }
    except Exception:  # noqa: BLE001 - whoever decodes it in earnest finds out why
        return None


def differing(recorded: object, given: object) -> str:
    """Return which of two calls' arguments differ, as `: name, name`; empty where none is known.

    Names alone: what the values are is for nobody who only reads an error.
    """
    if not (isinstance(recorded, bytes) and isinstance(given, bytes)):
        return ""
    try:
        one, other = _fields("", recorded), _fields("", given)
    except PayloadMismatch:
        return ""
    names = [name for name in one | other if one.get(name) != other.get(name)]
    return f": {', '.join(names)}" if names else ""


def _fields(name: str, data: bytes) -> dict[str, bytes]:
    try:
        return dict(unpack(data).items())
    except (AttributeError, ValueError, TypeError) as error:
        where = f"the arguments of {name}"
        raise PayloadMismatch(where, "a map of encoded values", "other bytes") from error


def _annotation(parameters: "Parameters", name: str) -> Any:  # noqa: ANN401 - an annotation
    hint = parameters.hint(name)
    kind = parameters.variadic(name)
    if kind == "args":
        return tuple.__class_getitem__((hint, ...))
    return dict.__class_getitem__((str, hint)) if kind == "kwargs" else hint
