"""`connect`: from an address to a client."""

import os
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from offbook.actors.client import Client
from offbook.actors.errors import ServerMissing
from offbook.actors.names import check_name
from offbook.actors.options import Settings
from offbook.actors.ports import Backend, Observer
from offbook.adapters.nats.backend import NatsBackend
from offbook.adapters.nats.options import ConnectOptions
from offbook.adapters.otel import default_observer
from offbook.adapters.server import EmbeddedServer, find_binary

_FOLDER = ".offbook"


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
) -> Client:
    """Return a client, without I/O: `async with offbook.connect() as client:` opens it.

    url: one or many NATS servers; without it the embedded server of `folder` where that is given,
    else `OFFBOOK_URL`, else an embedded server in `.offbook` in the working directory.
    namespace: default `OFFBOOK_NAMESPACE` or `offbook`. deployment: the version of the code that
    starts are for, default `OFFBOOK_DEPLOYMENT` or `default`. partitions, shards, replicas: fixed
    when the namespace is created; left out, what is stored holds. options: TLS and credentials
    (default: the `OFFBOOK_…` variables). observer: telemetry (default: logging, and OpenTelemetry
    where it is set up).

    Raises:
        InvalidName: a name that cannot be one. ServerMissing: no URL, and no embedded server.
    """
    space = check_name("namespace", namespace or os.environ.get("OFFBOOK_NAMESPACE") or "offbook")
    address = url or (None if folder else os.environ.get("OFFBOOK_URL")) or None
    make = partial(
        NatsBackend, namespace=space, partitions=partitions, shards=shards, replicas=replicas
    )
    chosen = options or options_from_environment()
    connection: Callable[[], AbstractAsyncContextManager[Backend]]
    if address is not None:
        connection = partial(_remote, make, address, chosen)
    else:
        _check_embedded()
        connection = partial(_embedded, make, Path(folder or _FOLDER), chosen)
    return Client(
        connection,
        observer=observer or default_observer(),
        deployment=deployment or os.environ.get("OFFBOOK_DEPLOYMENT") or "default",
        settings=settings,
    )


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
    )


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
