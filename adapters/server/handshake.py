"""Asks a server whether it is ours and whether JetStream works, without a client library."""

import asyncio
import json
import secrets
from asyncio import StreamReader, StreamWriter
from typing import Any, Final, cast

from .layout import State

_HEADERS_MAX: Final = 16


class NotReady(Exception):
    """The server does not answer as it should, yet."""


async def handshake(state: State) -> str:
    """Log in, ask for JetStream, wait for the answer; return the server's version.

    Raises NotReady with the reason. The credentials are sent only to a server of our name.
    """
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", state.port)
    except OSError as error:
        raise NotReady(f"port {state.port}: {error.strerror or error}") from None
    try:
        return await _talk(reader, writer, state)
    except (OSError, ValueError, asyncio.IncompleteReadError) as error:
        raise NotReady(f"port {state.port}: {error or type(error).__name__}") from None
    finally:
        writer.close()


async def _talk(reader: StreamReader, writer: StreamWriter, state: State) -> str:
    verb, _, text = (await reader.readline()).decode().partition(" ")
    if verb != "INFO":
        raise NotReady(f"port {state.port} is not a NATS server")
    info: dict[str, Any] = json.loads(text)
    if info.get("server_name") != state.name:
        raise NotReady(f"port {state.port} is another server")
    inbox = f"_INBOX.{secrets.token_hex(8)}"
    writer.write(_hello(state, inbox))
    await writer.drain()
    await _expect_jetstream(reader)
    return str(info.get("version", ""))


def _hello(state: State, inbox: str) -> bytes:
    options = {
        "verbose": False,
        "pedantic": False,
        "lang": "python",
        "version": "0",
        "protocol": 1,
        "name": "offbook-ready",
        "user": state.user,
        "pass": state.password,
        "headers": True,
        "no_responders": True,
    }
    return (
        f"CONNECT {json.dumps(options)}\r\nPING\r\nSUB {inbox} 1\r\n"
        f"PUB $JS.API.INFO {inbox} 0\r\n\r\n"
    ).encode()


async def _expect_jetstream(reader: StreamReader) -> None:
    """Read until the answer about JetStream, which must come after a PONG."""
    pong = False
    for _ in range(_HEADERS_MAX):
        line = (await reader.readline()).decode().strip()
        verb = line.split(" ", 1)[0]
        if verb == "MSG" and pong:
            return await _check_account(reader, int(line.rsplit(" ", 1)[1]))
        if verb in ("-ERR", "HMSG", ""):
            raise NotReady(line.removeprefix("-ERR ") or "the server closed the connection")
        pong = pong or verb == "PONG"
    raise NotReady("the server does not answer about JetStream")


async def _check_account(reader: StreamReader, size: int) -> None:
    found: object = json.loads(await reader.readexactly(size))
    answer = cast("dict[str, Any]", found) if isinstance(found, dict) else {}
    if "error" in answer or "memory" not in answer:
        raise NotReady(f"JetStream is not ready: {answer.get('error', answer)}")
