"""`connect`: from an address to a client."""

import os
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

from offbook.actors.client import Client
from offbook.actors.context import current_body
from offbook.actors.errors import (
    InvalidOption,
    MissingDependency,
    NotInWorkflowBody,
    ServerMissing,
)
from offbook.actors.errors_base import Told
from offbook.actors.frames import Cipher
from offbook.actors.names import check_name
from offbook.actors.options import Settings
from offbook.actors.ports import Backend, Observer
from offbook.actors.values import flag
from offbook.adapters.cipher.marks import Guard
from offbook.adapters.nats.backend import NatsBackend
from offbook.adapters.nats.options import ConnectOptions, target
from offbook.adapters.nats.setup import check_settings
from offbook.adapters.otel import default_observer
from offbook.adapters.server import EmbeddedServer, find_binary

_FOLDER = ".offbook"
_KEYS, _KEY_FILE, _REQUIRE = "OFFBOOK_KEYS", "OFFBOOK_KEY_FILE", "OFFBOOK_REQUIRE_SEALED"
T = TypeVar("T")


def connect(  # noqa: PLR0913 - each has a default
    url: str | Sequence[str] | None = None,
    *,
    namespace: str | None = None,
    deployment: str | None = None,
    partitions: int | None = None,
    shards: int | None = None,
    replicas: int | None = None,
    options: ConnectOptions | None = None,
    settings: Settings | None = None,
    observer: Observer | None = None,
    folder: str | Path | None = None,
    cipher: Cipher | None = None,
    clear: bool = False,
) -> Client:
    """Return a client, without I/O: `async with offbook.connect() as client:` opens it.

    url: one or many NATS servers; without it the embedded server of `folder` where that is given,
    else `OFFBOOK_URL`, else an embedded server in `.offbook` in the working directory.
    namespace: default `OFFBOOK_NAMESPACE` or `offbook`. deployment: the version of the code that
    starts are for, default `OFFBOOK_DEPLOYMENT` or `default`. partitions, shards, replicas: fixed
    when the namespace is created; left out, what is stored holds. options: TLS and credentials
    (default: the `OFFBOOK_…` variables). observer: telemetry (default: logging, and OpenTelemetry
    where it is set up). cipher: seals all payloads before they leave the process, such as
    `AesGcm` of offbook.adapters.cipher (default: the keys of `OFFBOOK_KEYS` or of the file
    `OFFBOOK_KEY_FILE`, else none). clear: write in the clear where others seal, which a client
    without keys does not do unasked (default: whether `OFFBOOK_REQUIRE_SEALED` is 0).

    Raises:
        InvalidName, InvalidOption: an argument has a value that it cannot have.
        MissingDependency: keys are set, and the package `cryptography` is not installed.
        ServerMissing: no URL, and no embedded server. NotInWorkflowBody: a body called it.
    """
    if current_body() is not None:
        raise NotInWorkflowBody("offbook.connect", "use offbook.start, or connect in a @step")
    space = check_name("namespace", _given(namespace, "OFFBOOK_NAMESPACE", "offbook"))
    address = _given(url, "" if folder else "OFFBOOK_URL", None)
    check_settings({"partitions": partitions, "shards": shards, "replicas": replicas})
    make = partial(
        NatsBackend, namespace=space, partitions=partitions, shards=shards, replicas=replicas
    )
    chosen = options_from_environment() if options is None else options
    if not isinstance(chosen, ConnectOptions):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidOption("options", options, "made by offbook.ConnectOptions(…)")
    if observer is not None and not callable(getattr(observer, "log", None)):
        raise InvalidOption("observer", observer, "an Observer")
    connection: Callable[[], AbstractAsyncContextManager[Backend]]
    if address is not None:
        target(address, chosen)
        connection = partial(_remote, make, address, chosen)
    else:
        _check_embedded()
        connection = partial(_embedded, make, _folder(folder), chosen)
    box = cipher_from_environment() if cipher is None else cipher
    open_ = flag("clear", clear) or os.environ.get(_REQUIRE) == "0"
    return Client(
        connection if box is None else partial(_sealed, connection, _checked(box)),
        observer=observer or default_observer(),
        deployment=_given(deployment, "OFFBOOK_DEPLOYMENT", "default"),
        settings=settings,
        guard=Guard() if box is None and not open_ else None,
    )


def _given(value: T | None, variable: str, default: T) -> T | str:
    """Return what was given, else what the environment says and is not empty, else the default."""
    return (os.environ.get(variable) or default) if value is None else value


def _folder(folder: object) -> Path:
    if folder is None or (isinstance(folder, str | Path) and folder):
        return Path(folder or _FOLDER)
    raise InvalidOption("folder", folder, "a path")


def options_from_environment() -> ConnectOptions:
    """Return the connection options that the `OFFBOOK_…` variables give."""
    read = os.environ.get
    return ConnectOptions(
        tls_ca=read("OFFBOOK_TLS_CA"),
        tls_cert=read("OFFBOOK_TLS_CERT"),
        tls_key=read("OFFBOOK_TLS_KEY"),
        creds=read("OFFBOOK_CREDS"),
        nkey_seed=read("OFFBOOK_NKEY_SEED"),
        user=read("OFFBOOK_USER"),
        password=read("OFFBOOK_PASSWORD"),
        token=read("OFFBOOK_TOKEN"),
        role=read("OFFBOOK_ROLE"),
    )


def cipher_from_environment() -> Cipher | None:
    """Return the cipher that the `OFFBOOK_…` variables give; None where they name no keys.

    Raises:
        InvalidOption: they are not as they should be.
        MissingDependency: the package `cryptography` is not installed.
    """
    text, path = os.environ.get(_KEYS), os.environ.get(_KEY_FILE)
    required = os.environ.get(_REQUIRE)
    if not text and not path:
        if required not in {None, "", "0"}:
            expected = f"set together with {_KEYS} or {_KEY_FILE}"
            raise InvalidOption(_REQUIRE, Told("no keys"), expected)
        return None
    if text and path:
        raise InvalidOption(_KEY_FILE, Told("both"), f"left out where {_KEYS} is set")
    if required not in {None, "", "0", "1"}:
        raise InvalidOption(_REQUIRE, required, "1 or 0")
    if find_spec("cryptography") is None:
        raise MissingDependency("sealing payloads", "offbook[crypto]")
    from offbook.adapters.cipher import AesGcm, KeyRing  # noqa: PLC0415 - an extra

    ring = KeyRing.from_file(path) if path else KeyRing.from_environment(_KEYS)
    return AesGcm(ring, require=required == "1")


def _checked(cipher: Cipher) -> Cipher:
    given: object = cipher
    if not callable(getattr(given, "seal", None)) or not callable(getattr(given, "open", None)):
        raise InvalidOption("cipher", given, "a Cipher, such as AesGcm of offbook.adapters.cipher")
    return cipher


def _sealed(
    connection: Callable[[], AbstractAsyncContextManager[Backend]], cipher: Cipher
) -> AbstractAsyncContextManager[Backend]:
    from offbook.adapters.cipher.backend import sealed  # noqa: PLC0415 - seldom wanted

    return sealed(connection, cipher)


def _check_embedded() -> None:
    if find_spec("fcntl") is None:
        raise ServerMissing
    find_binary()


@asynccontextmanager
async def _remote(
    make: Callable[..., NatsBackend], address: str | Sequence[str], options: ConnectOptions
) -> AsyncGenerator[Backend]:
    backend = make(address, options=options)
    await backend.open()
    try:
        yield backend
    finally:
        await backend.close()


@asynccontextmanager
async def _embedded(
    make: Callable[..., NatsBackend], folder: Path, options: ConnectOptions
) -> AsyncGenerator[Backend]:
    async with EmbeddedServer(folder) as server:
        address = server.address
        login = replace(options, user=address.user, password=address.password)
        async with _remote(make, address.url, login) as backend:
            yield backend
