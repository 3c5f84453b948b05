"""How to reach a server: TLS, credentials, names."""

import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from typing import Any
from urllib.parse import unquote, urlsplit

from offbook.actors.errors import InvalidOption, MissingDependency

ROLES = ("setup", "worker", "janitor", "client", "webhook", "web")
"""Who makes the namespace; runs it; removes old runs; starts and reads; takes hooks; looks on."""

_INBOX = "_INBOX"
_SCHEMES = ("nats", "tls")
_ODD = re.compile(r"[\s\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class ConnectOptions:
    """How to connect. All are optional; user, password and token may stand in the URL too.

    `tls_ca`, `tls_cert` and `tls_key` are paths of PEM files; `creds` and `nkey_seed` are paths
    of a credentials file and of a seed file (both need the package `nkeys`). `open_seconds` is
    how long the first connection may take, `request_seconds` how long one answer may. `role` is
    what the process is for the server's permissions: setup, worker, janitor, client, webhook or
    web; what is not permitted is an error at the opening then, and answers come under
    `_INBOX_<role>`, unless `inbox_prefix` says otherwise.
    """

    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    tls_hostname: str | None = None
    creds: str | None = None
    nkey_seed: str | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    name: str | None = None
    inbox_prefix: str = _INBOX
    role: str | None = None
    open_seconds: float = 5.0
    request_seconds: float = 5.0

    @property
    def inbox(self) -> str:
        """The prefix of the subjects on which answers come."""
        own = self.role is not None and self.inbox_prefix == _INBOX
        return f"{_INBOX}_{self.role}" if own else self.inbox_prefix

    @property
    def credential(self) -> str:
        """What the server would refuse us for."""
        if self.creds:
            return "creds"
        if self.nkey_seed:
            return "nkey_seed"
        if self.token:
            return "token"
        return "user and password" if self.user else "credentials (none were given)"


@dataclass(frozen=True, slots=True)
class Target:
    """Servers without credentials in them, and the options with what the URLs said."""

    servers: tuple[str, ...]
    tls: bool
    options: ConnectOptions

    def arguments(self) -> dict[str, Any]:
        """Return what nats-py's `connect` takes for this."""
        options = self.options
        found: dict[str, Any] = {
            "servers": list(self.servers),
            "name": options.name,
            "user": options.user,
            "password": options.password,
            "token": options.token,
            "user_credentials": options.creds,
            "nkeys_seed": options.nkey_seed,
            "inbox_prefix": options.inbox,
            "tls_hostname": options.tls_hostname,
        }
        if self.tls:
            found["tls"] = _context(options)
        return found


def target(servers: str | Sequence[str], options: ConnectOptions) -> Target:
    """Return where and how to connect.

    Raises:
        InvalidOption: a URL that is no `nats://` or `tls://` address, or an unreadable file.
        MissingDependency: `creds` or `nkey_seed` without the package `nkeys`.
    """
    if options.role is not None and options.role not in ROLES:
        raise InvalidOption("role", options.role, f"one of {', '.join(ROLES)}")
    urls = _urls(servers)
    plain: list[str] = []
    tls = bool(options.tls_ca or options.tls_cert)
    for url in urls:
        address, secure, options = _split(url, options)
        plain.append(address)
        tls = tls or secure
    if (options.creds or options.nkey_seed) and find_spec("nkeys") is None:
        raise MissingDependency("a credentials file or an nkey seed", "nkeys")
    return Target(tuple(plain), tls, options)


def _urls(servers: object) -> list[str]:
    if isinstance(servers, str):
        return [part.strip() for part in servers.split(",")]
    given: Any = servers
    if not isinstance(servers, Sequence) or not servers or isinstance(servers, bytes):
        raise InvalidOption("url", given, "one or more addresses of servers")
    found = list(given)
    for url in found:
        if not isinstance(url, str):
            raise InvalidOption("url", url, "text, or several texts")
    return found


def _split(url: str, options: ConnectOptions) -> tuple[str, bool, ConnectOptions]:
    expected = "nats://host:port or tls://host:port"
    try:
        parts = urlsplit(url if "://" in url else f"nats://{url}")
        port = parts.port or 4222
    except ValueError as error:
        raise InvalidOption("url", _masked(url), expected) from error
    if parts.scheme not in _SCHEMES or not parts.hostname or _ODD.search(url):
        raise InvalidOption("url", _masked(url), expected)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    address = f"{parts.scheme}://{host}:{port}"
    # Unquoted here: nats-py sends a percent-encoded password as it stands.
    if parts.password is not None and options.user is None:
        user, password = unquote(parts.username or ""), unquote(parts.password)
        options = replace(options, user=user, password=password)
    elif parts.username and options.user is None and options.token is None:
        options = replace(options, token=unquote(parts.username))
    return address, parts.scheme == "tls", options


def _masked(url: str) -> str:
    return url.rpartition("@")[2]


def _context(options: ConnectOptions) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=options.tls_ca)
    except OSError as error:
        raise InvalidOption("tls_ca", options.tls_ca, f"a PEM file ({error})") from error
    if options.tls_cert is not None:
        try:
            context.load_cert_chain(options.tls_cert, options.tls_key)
        except OSError as error:
            expected = f"a PEM file with its tls_key ({error})"
            raise InvalidOption("tls_cert", options.tls_cert, expected) from error
    return context
