"""Who is let in by `offbook mcp`."""

from pathlib import Path

import pytest

from offbook.adapters.http import Incoming
from offbook.ops.cli.mcp import Bearer
from support.commands import Place


def incoming(authorization: str | None) -> Incoming:
    headers = [] if authorization is None else [(b"authorization", authorization.encode())]
    return Incoming({"method": "POST", "path": "/mcp", "headers": headers})


@pytest.mark.parametrize(
    ("authorization", "good"),
    [
        ("Bearer secret", True),
        ("Bearer secreT", False),
        ("Basic secret", False),
        ("Bearer ", False),
        ("Bearer sécret", False),
        (None, False),
    ],
)
async def test_only_the_bearer_of_the_token(authorization: str | None, good: bool) -> None:  # noqa: FBT001
    assert bool(await Bearer("secret")(incoming(authorization))) is good


def test_beyond_this_machine_only_with_a_token(tmp_path: Path) -> None:
    done = Place(tmp_path).inside("mcp", "--http", "0", "--host", "0.0.0.0")
    assert done.code == 2
    assert "OFFBOOK_MCP_TOKEN" in done.err


def test_only_tools_that_there_are(tmp_path: Path) -> None:
    done = Place(tmp_path).inside("mcp", "--only", "nothing", "--url", "nats://127.0.0.1:1")
    assert done.code == 2
    assert "run_status" in done.err


def test_a_module_must_be_there(tmp_path: Path) -> None:
    done = Place(tmp_path).inside("mcp", "nowhere_at_all", "--url", "nats://127.0.0.1:1")
    assert done.code == 2
    assert "nowhere_at_all" in done.err
