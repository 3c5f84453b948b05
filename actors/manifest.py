"""What a deployment's workers can run, so that a start can refuse what nobody knows."""

from collections.abc import Iterable
from hashlib import sha256
from typing import Any, cast

from .env import Env
from .model import pack, unpack_open
from .ports import Backend, Refused

_KINDS = ("workflows", "steps")


async def publish_manifest(env: Env) -> None:
    """Add what this worker serves to the manifest of its deployment."""
    mine = _manifest(env)
    table = env.backend.deployments
    while True:
        entry = await table.get(env.lane)
        try:
            if entry is None:
                await table.create(env.lane, pack(mine))
                return
            merged = _merge(_read(entry.value), mine)
            if pack(merged) == entry.value:
                return
            await table.swap(env.lane, pack(merged), entry.revision)
        except Refused:
            continue
        else:
            return


def digest_of(names: Iterable[str]) -> str:
    """Return a short text that is equal where the same workflows are served."""
    return sha256("\0".join(sorted(names)).encode()).hexdigest()[:16]


def _manifest(env: Env) -> dict[str, Any]:
    known = env.registry
    return {
        "workflows": {n: repr(w.parameters) for n, w in sorted(known.workflows.items())},
        "steps": {n: repr(s.parameters) for n, s in sorted(known.steps.items())},
    }


def _merge(old: dict[str, Any] | None, mine: dict[str, Any]) -> dict[str, Any]:
    known = old or {}
    return {kind: dict(sorted({**known.get(kind, {}), **mine[kind]}.items())) for kind in _KINDS}


def _read(data: bytes) -> dict[str, Any] | None:
    """Return a stored manifest; None for foreign bytes."""
    try:
        found = unpack_open(data)
    except ValueError:
        return None
    if not isinstance(found, dict):
        return None
    known = cast("dict[str, Any]", found)
    return known if all(isinstance(known.get(kind), dict) for kind in _KINDS) else None


async def read_manifest(backend: Backend, deployment: str) -> dict[str, Any] | None:
    """Return the manifest of a deployment; None where no worker of it ever ran."""
    entry = await backend.deployments.get(deployment)
    return None if entry is None else _read(entry.value)
