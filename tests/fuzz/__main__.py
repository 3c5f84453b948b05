"""Fuzzes with atheris: `make fuzz ARGS="mail -max_total_time=60"`; the options are libFuzzer's.

The first word names a target of `fuzz.targets`, or `all`; new inputs are kept nowhere unless a
folder is named, as libFuzzer wants it.
"""

import sys
from typing import Any

import atheris as _atheris  # type: ignore[import-not-found, import-untyped, unused-ignore]  # pyright: ignore[reportMissingImports]

atheris: Any = _atheris

with atheris.instrument_imports(include=["offbook", "msgpack"]):
    from fuzz.targets import TARGETS, Target


def _chosen(name: str) -> Target:
    known = {target.__name__: target for target in TARGETS}
    if name == "all":
        return _all
    if name not in known:
        sys.exit(f"no target {name!r}: all, {', '.join(known)}")
    return known[name]


def _all(data: bytes) -> None:
    if data:
        TARGETS[data[0] % len(TARGETS)](data[1:])


def main() -> None:
    """Fuzz until libFuzzer's options end it."""
    name = sys.argv.pop(1) if len(sys.argv) > 1 else "all"
    atheris.Setup(sys.argv, _chosen(name))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
