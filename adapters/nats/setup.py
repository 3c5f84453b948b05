"""Opening a namespace: is the server fit, what is stored, what must be made."""

import asyncio
import json
import re
from typing import Any

from offbook.actors.errors import (
    InvalidOption,
    NamespaceMismatch,
    OffbookError,
    PermissionMissing,
    ServerTooOld,
    ServerUnavailable,
    ServerUnfit,
)
from offbook.actors.ports import Namespace, Refused, Unsure

from .api import (
    CREATE,
    NAME_IN_USE,
    NO_STREAM,
    ApiError,
    ask,
    call,
    leader_get,
    publish,
)
from .link import Link
from .names import Names
from .permissions import USER_INFO, missing, permissions
from .streams import Config, Drift, all_streams, bucket, drifts

REQUIRED_VERSION = (2, 15, 0)
_KEY = "namespace"
_FIXED = ("partitions", "shards", "replicas")
_MOST = {"partitions": 1024, "shards": 64, "replicas": 5}

_NO_JETSTREAM = frozenset({10039, 10076})
NO_PEERS = frozenset({10005, 10074})
_TRIES = 20
_PAUSE_SECONDS = 0.25


def check_server(info: dict[str, Any]) -> None:
    """Refuse a server that is too old, or whose version cannot be read.

    Raises:
        ServerTooOld: below 2.15.
    """
    version = str(info.get("version", ""))
    found = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    required = ".".join(map(str, REQUIRED_VERSION))
    if found is None or tuple(map(int, found.groups())) < REQUIRED_VERSION:
        raise ServerTooOld(version or "unknown", required)


def check_settings(asked: dict[str, int | None]) -> None:
    """Refuse settings that no namespace can have.

    Raises:
        InvalidOption: one is out of bounds.
    """
    for setting, value in asked.items():
        most = _MOST[setting]
        good = value is None or (type(value) is int and 1 <= value <= most)
        if not good:
            raise InvalidOption(setting, value, f"a whole number from 1 to {most}")


class Setup:
    """Creates or checks what a namespace stands on; `problems` is what is not as it should be."""

    def __init__(self, link: Link, names: Names, asked: dict[str, int | None]) -> None:
        self._link = link
        self._names = names
        self._asked = asked
        self.problems: list[str] = []
        self.account: dict[str, Any] = {}

    async def run(self) -> None:
        """Check the server, then the settings, then each stream.

        Raises:
            ServerTooOld, ServerUnfit, NamespaceMismatch: see their texts.
            ServerUnavailable: JetStream did not answer in time.
        """
        check_server(self._link.info)
        await self._jetstream()
        self._names.settle(await self._settle())
        await self.permit()
        await self._streams()

    async def permit(self) -> None:
        """Make sure that the server permits what the role of this process needs.

        Raises:
            PermissionMissing: it does not; the error names the first subject of what is missing.
        """
        options = self._link.target.options
        if options.role is None:
            return
        needed = permissions(options.role, self._names.namespace, inbox=options.inbox)
        allowed = await self._allowed()
        for what, kind, subjects in (
            ("publish to", "publish", needed.publish),
            ("listen to", "subscribe", needed.subscribe),
        ):
            rules: dict[str, Any] = allowed.get(kind) or {}
            lacking = missing(subjects, rules.get("allow") or (), rules.get("deny") or ())
            if lacking:
                reason = f"{len(lacking)} of its subjects are not permitted"
                raise PermissionMissing(what, reason, lacking[0], options.role)

    async def _allowed(self) -> dict[str, Any]:
        """Return what the server says that this user may do; nothing where it does not say."""
        try:
            _, data = await self._link.ask(USER_INFO.encode(), b"")
            found: dict[str, Any] = json.loads(data)["data"].get("permissions") or {}
        except PermissionMissing:
            raise
        except (OffbookError, ValueError, KeyError, TypeError, AttributeError):
            return {}
        return found

    async def refresh(self) -> None:
        """Look again at limits and streams. Raises as `run`."""
        self.problems = []
        await self._jetstream()
        await self._streams()

    async def _streams(self) -> None:
        wanted = all_streams(self._names)
        outcomes = await asyncio.gather(
            *(self.stream(config) for config in wanted), return_exceptions=True
        )
        for outcome in outcomes:
            if outcome is not None:
                raise outcome

    async def _jetstream(self) -> None:
        """Wait for JetStream: a server that just started says for a while that it is away."""
        if not self._link.info.get("jetstream"):
            # A server of a cluster without JetStream of its own may pass requests on.
            self.problems.append("this server has no JetStream of its own")
        cause: OffbookError | None = None
        for _ in range(_TRIES):
            cause = await self._account()
            if cause is None:
                return
            await asyncio.sleep(_PAUSE_SECONDS)
        raise ServerUnavailable("asking for JetStream", str(cause)) from cause

    async def _account(self) -> OffbookError | None:
        try:
            self.account = await call(self._link, "INFO")
        except ApiError as error:
            if error.err_code in _NO_JETSTREAM:
                raise self._unfit(error.description) from error
            return error.typed()
        except Unsure as error:
            if not self._link.info.get("jetstream"):
                raise self._unfit("off") from error
            return error
        return None

    def _unfit(self, found: str) -> ServerUnfit:
        return ServerUnfit("jetstream", found, "on, for this account: jetstream { } in its file")

    async def _settle(self) -> Namespace:
        stored = await self._stored()
        if stored is None:
            stored = await self._create_settings()
        for setting in _FIXED:
            asked = self._asked[setting]
            found = getattr(stored, setting)
            if asked is not None and asked != found:
                raise NamespaceMismatch(stored.name, setting, found, asked)
        return stored

    async def _stored(self) -> Namespace | None:
        stream = f"KV_{self._names.settings}"
        try:
            body = {"last_by_subj": self._subject}
            found = await leader_get(self._link, stream, body)
        except OffbookError as error:
            cause = error.__cause__
            if isinstance(cause, ApiError) and cause.err_code == NO_STREAM:
                return None
            raise
        if found is None:
            return None
        values: dict[str, Any] = json.loads(found.data)
        return Namespace(self._names.root, **{name: int(values[name]) for name in _FIXED})

    @property
    def _subject(self) -> str:
        return f"$KV.{self._names.settings}.{_KEY}"

    async def _create_settings(self) -> Namespace:
        chosen = {name: value for name, value in self._asked.items() if value is not None}
        namespace = Namespace(self._names.root, **chosen)
        self._names.settle(namespace)
        await self.stream(bucket(self._names, self._names.settings))
        data = json.dumps({"v": 1} | {name: getattr(namespace, name) for name in _FIXED})
        try:
            await publish(self._link, self._subject.encode(), data.encode(), CREATE)
        except Refused:
            stored = await self._stored()
            return stored or namespace
        return namespace

    async def stream(self, wanted: Config) -> None:
        """Check a stream, or create it where it is absent. Raises as `run`."""
        name = wanted["name"]
        try:
            info = await call(self._link, f"STREAM.INFO.{name}")
        except ApiError as error:
            if error.err_code != NO_STREAM:
                raise error.typed() from error
            info = await self._create(wanted)
        self._compare(wanted, info["config"])

    async def _create(self, wanted: Config) -> dict[str, Any]:
        name = wanted["name"]
        try:
            return await call(self._link, f"STREAM.CREATE.{name}", wanted)
        except ApiError as error:
            if error.err_code == NAME_IN_USE:
                return await ask(self._link, f"STREAM.INFO.{name}")
            if error.err_code in NO_PEERS:
                found = f"not possible for {wanted['num_replicas']} ({error.description})"
                raise ServerUnfit("replicas", found, "as many servers as replicas") from error
            raise error.typed() from error

    def _compare(self, wanted: Config, found: Config) -> None:
        # Leases and summaries may be lost, and topics forget by themselves; nothing else may.
        history = not wanted["name"].endswith(("_leases", "_runs", "_topics"))
        for drift in drifts(wanted, found, history=history):
            if drift.fatal:
                raise _unsafe(drift)
            self.problems.append(str(drift))


def _unsafe(drift: Drift) -> ServerUnfit:
    setting = f"{drift.setting} of stream {drift.stream}"
    return ServerUnfit(setting, repr(drift.found), f"{drift.wanted!r}, or runs could be lost")
