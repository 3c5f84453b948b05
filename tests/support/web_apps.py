"""One web application for each framework, with an edge in it and a worker inside, for uvicorn.

`WEB_APP` names the framework, `WEB_FOLDER` the folder of the embedded server.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import offbook
from offbook import current_run, step, stream, webhook, workflow
from offbook.adapters.http import Edge, Incoming, wrap
from support.chats import pages_of

PREFIX = "/.well-known/offbook/v1"
Untyped = Any  # the frameworks' own types are no matter of these tests
FOLDER = Path(os.environ.get("WEB_FOLDER", "."))
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
KEY = "let me in"


@step
async def double(number: int) -> int:
    """Work that takes a moment, so that a stop finds some of it under way."""
    await asyncio.sleep(0.02)
    return number * 2


@workflow
async def doubled(number: int) -> int:
    return await double(await double(number))


@step
async def write_down(url: str) -> None:
    """Keep an address where the test finds it."""
    path = FOLDER / f"{current_run().id}.url"
    draft = path.with_suffix(".draft")
    draft.write_text(url, encoding="utf-8")
    draft.replace(path)


@step
async def say(count: int, pause: float) -> None:
    words = stream("words")
    for number in range(count):
        await words.write(number)
        await asyncio.sleep(pause)


@workflow
async def talks(count: int, pause: float = 0.002) -> None:
    await say(count, pause)


@workflow
async def asks(count: int) -> list[str]:
    found: list[str] = []
    async with webhook(respond_with="manual", signed="test") as open_hook:
        await open_hook.claim()
        await write_down(open_hook.url)
        while len(found) < count:
            request = await open_hook
            found.append(request.text)
            await request.respond(json={"number": len(found), "text": request.text})
    return found


ALL: list[offbook.Workflow[..., Any]] = [doubled, asks, talks]


async def authenticate(incoming: Incoming) -> bool:
    return incoming.header("x-key") == KEY


def make_edge(*, working: bool = True) -> Edge:
    client = offbook.connect(os.environ.get("WEB_URL"), folder=FOLDER / "server")
    return Edge(
        client,
        start=ALL,
        authenticate=authenticate,
        webhook_secrets={"test": SECRET},
        worker=offbook.Worker(client, workflows=ALL, grace=1) if working else None,
    )


def load(module: str) -> Untyped:
    """Import a framework: what it does not say of its types shall not matter here."""
    return import_module(module)


def starlette() -> Untyped:
    """Mounted, in the application's own lifespan."""
    edge = make_edge()

    @asynccontextmanager
    async def lifespan(_app: object) -> AsyncGenerator[None]:
        async with edge.running():
            yield

    async def hello(_request: object) -> Untyped:
        return load("starlette.responses").PlainTextResponse("hello")

    routing = load("starlette.routing")
    routes = [routing.Route("/hello", hello), routing.Mount("/", edge)]
    return load("starlette.applications").Starlette(routes=routes, lifespan=lifespan)


def fastapi() -> Untyped:
    """Mounted below a place of its own, without a lifespan: it starts with the first request."""
    app = load("fastapi").FastAPI()

    async def hello() -> Untyped:
        return load("starlette.responses").PlainTextResponse("hello")

    app.get("/hello")(hello)
    app.mount("/inside", make_edge())
    return app


def litestar() -> Untyped:
    """Mounted, with the application's own lifespan."""
    edge, framework = make_edge(), load("litestar")

    @asynccontextmanager
    async def lifespan(_app: object) -> AsyncGenerator[None]:
        async with edge.running():
            yield

    async def hello() -> str:
        return "hello"

    async def mounted(scope: Untyped, receive: Untyped, send: Untyped) -> None:
        await edge(scope, receive, send)

    mounted.__annotations__ = {
        "scope": load("litestar.types").Scope,
        "receive": load("litestar.types").Receive,
        "send": load("litestar.types").Send,
        "return": None,
    }
    routes = [
        framework.get("/hello", media_type="text/plain")(hello),
        framework.asgi(PREFIX, is_mount=True, copy_scope=True)(mounted),
    ]
    return framework.Litestar(route_handlers=routes, lifespan=[lifespan])


def django() -> Untyped:
    """Wrapped; Django has no lifespan."""
    settings, http = load("django.conf").settings, load("django.http")

    def hello(_request: object) -> Untyped:
        return http.HttpResponse("hello")

    urls = [load("django.urls").path("hello", hello)]
    module = type(os)("web_urls")
    vars(module)["urlpatterns"] = urls
    settings.configure(ROOT_URLCONF=module, ALLOWED_HOSTS=["*"], SECRET_KEY="none")
    return wrap(load("django.core.asgi").get_asgi_application(), make_edge())


def flask() -> Untyped:
    """Wrapped around a2wsgi's bridge."""
    app = load("flask").Flask("web")
    app.get("/hello")(lambda: "hello")
    return wrap(load("a2wsgi").WSGIMiddleware(app), make_edge())


def alone() -> Untyped:
    """The edge is the application."""
    return make_edge()


def alone_idle() -> Untyped:
    """The same without a worker."""
    return make_edge(working=False)


def chat() -> Untyped:
    """Chats for AI SDK clients of each major, wrapped around an application of starlette."""

    async def hello(_request: object) -> Untyped:
        return load("starlette.responses").PlainTextResponse("hello")

    routes = [load("starlette.routing").Route("/hello", hello)]
    client = offbook.connect(os.environ.get("WEB_URL"), folder=FOLDER / "server")
    return pages_of(client, load("starlette.applications").Starlette(routes=routes))


FRAMEWORKS = ("starlette", "fastapi", "litestar", "django", "flask")
_APPS: dict[str, Callable[[], Any]] = {
    "starlette": starlette,
    "fastapi": fastapi,
    "litestar": litestar,
    "django": django,
    "flask": flask,
    "alone": alone,
    "alone-idle": alone_idle,
    "chat": chat,
}


def app() -> Callable[..., Awaitable[None]]:
    """Return the application: uvicorn calls this with `--factory`."""
    found: Callable[..., Awaitable[None]] = _APPS[os.environ["WEB_APP"]]()
    return found
