"""The web server of the coding agent: the page, the chat, the finished applications.

    uvicorn app:app --app-dir examples/coding_agent

with a worker beside it (see coder.py). `demo.py` starts both.
"""

import mimetypes
import os
import signal
from contextlib import suppress
from pathlib import Path
from threading import Thread
from time import sleep
from urllib.parse import urlsplit

from coder import code, coder, sandboxes
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.staticfiles import StaticFiles
from sandbox import SandboxError
from starlette.middleware.trustedhost import TrustedHostMiddleware

import offbook
from offbook.adapters.ai_sdk import ChatEdge
from offbook.adapters.http import Edge, wrap

DIST = Path(__file__).parent / "dist"
WORKERS = os.environ.get("CODER_WORKERS")
"""A folder in which the supervisor names its workers, if there is one."""
_FOLLOW_SECONDS = 0.5

APP_HEADERS = {
    # An application of the model's has no origin: it reaches neither the page nor the chat.
    "content-security-policy": "sandbox allow-scripts allow-forms allow-modals",
    "access-control-allow-origin": "*",
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
}

api = FastAPI()
api.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])


@api.get("/api/about")
async def about() -> dict[str, object]:
    """Tell the page who answers, and who works."""
    return {"model": coder.model.name, "scripted": coder.model.provider == "scripted",
            "workers": _workers(), "supervised": WORKERS is not None}  # fmt: skip


@api.post("/api/kill")
async def kill(request: Request) -> dict[str, list[int]]:
    """Kill the workers without a word of warning: kill -9."""
    _check_own_page(request)
    pids = _workers()
    for pid in pids:
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
    return {"killed": pids}


def _workers() -> list[int]:
    """Return the workers that the supervisor has started: each leads a group of its own."""
    if WORKERS is None:
        return []
    return sorted(int(name) for name in os.listdir(WORKERS) if name.isdecimal())  # noqa: PTH208


def _check_own_page(request: Request) -> None:
    """Refuse pages of other sites, and applications of the model's."""
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        raise HTTPException(403, "pages of other sites may not do that")


@api.get("/apps/{sandbox}/{path:path}")
async def show(sandbox: str, path: str) -> Response:
    """Serve a file of a sandbox, to an iframe."""
    try:
        data = await sandboxes.read(sandbox, path or "index.html")
    except SandboxError as error:
        raise HTTPException(404, str(error)) from None
    kind, _ = mimetypes.guess_type(path or "index.html")
    return Response(data, media_type=kind or "application/octet-stream", headers=APP_HEADERS)


api.mount("/", StaticFiles(directory=DIST, html=True))


def _follow(parent: int) -> None:
    """Stop when the supervisor is gone, however it went."""
    while os.getppid() == parent:
        sleep(_FOLLOW_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)


if "CODER_PARENT" in os.environ:
    parent = int(os.environ["CODER_PARENT"])
    Thread(target=_follow, args=(parent,), daemon=True).start()

client = offbook.connect()
chats = ChatEdge(client, code, major=7, explain=str)
# Without `authenticate` both serve this machine only; the address of a question is a secret.
app = wrap(wrap(api, chats), Edge(client))
