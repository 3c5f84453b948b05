"""What cannot be is refused where it is said, by an error of offbook's that names it.

Not a TypeError from somewhere inside, and never accepted and then lost.
"""

# mypy: disable-error-code="arg-type, call-arg, call-overload, dict-item, misc, valid-type"
# pyright: reportArgumentType=false, reportCallIssue=false, reportUnknownArgumentType=false
# pyright: reportUnknownLambdaType=false, reportUnknownMemberType=false
# ruff: noqa: ANN401 - the cases pass values of any type

import asyncio
import math
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

import offbook
from offbook import (
    CancelScope,
    Client,
    Hook,
    InvalidName,
    InvalidOption,
    OffbookError,
    Response,
    Retry,
    Run,
    Settings,
    Webhook,
    Worker,
    connect,
    hook,
    register,
    set_attributes,
    sleep,
    step,
    stream,
    topic,
    webhook,
    workflow,
)
from offbook.testing import Environment
from offbook.testing import run as in_virtual_time

NAIVE = datetime(2030, 1, 1)  # noqa: DTZ001 - the case
LATEST = datetime.max.replace(tzinfo=UTC)
WESTERN = datetime.max.replace(tzinfo=timezone(timedelta(hours=-5)))
HUGE: Any = 10**5000
LONE = "\ud800"
URL = "nats://127.0.0.1"

Case = Callable[[], Any]
Cases = dict[str, Case]


@workflow
async def returns(x: int = 0) -> int:
    return x


@step
async def some_step(x: int = 0) -> int:
    return x


def plain() -> None:
    pass


async def agreed() -> None:
    pass


def generating() -> Generator[None]:
    yield


async def streaming() -> AsyncGenerator[None]:
    yield


def over(make: Callable[..., Any], **values: list[Any]) -> Cases:
    """Return a case for each value of each option."""
    return {
        f"{make.__name__} {name}={type(value).__name__} {n}": lambda name=name, value=value: make(
            **{name: value}
        )
        for name, those in values.items()
        for n, value in enumerate(those)
    }


def decorated(**options: Any) -> Any:
    return step(**options)(plain)


def connected(**options: Any) -> Any:
    return connect(**{"url": URL, **options})


def named_workflow(**options: Any) -> Any:
    return workflow(**options)(agreed)


ALONE: Cases = {
    **over(
        Retry,
        attempts=[-1, 0, 1.5, "x", None, True, math.nan, 10**30, HUGE],
        first=[-1, "x", None, math.nan, timedelta.max, HUGE],
        factor=[0.5, "x", math.nan, math.inf, HUGE, 1j],
        maximum=[-1, "x", None, math.inf],
        jitter=[-0.1, 2, "x", math.nan, None],
        on=[5, [5], None, "x", int],
        never=[5, [5], None],
    ),
    **over(
        Settings,
        lease=[0, -1, "x", None, math.nan, timedelta.max],
        grace=[-1, "x", math.nan],
        gc_interval=[0, -1, "x"],
        retention=[-1, "x"],
        poison=[0, "x", 1.5],
        inline_limit=[-1, "x", 1.5, True],
        total_limit=[0, None],
        strict_ids=["x", 1, None],
    ),
    **over(
        decorated,
        retry=["x", -1, 1.5, None, HUGE],
        timeout=["x", -1, math.nan, timedelta.max],
        deadline=["x", -1],
        heartbeat=["x", -1],
        queue=[5, "", "a.b"],
        name=[5, "", "x" * 300, LONE, "offbook.mine"],
        raises=[5, [5], int],
    ),
    **over(named_workflow, name=[5, "", "x" * 300, LONE, "offbook.mine"]),
    **over(
        connected,
        url=[123, b"x", [], [1], "", "http://x", "nats://a b", "nats://a:99999", "nats://"],
        namespace=[5, 0, "", "a.b", "x" * 129],
        deployment=[5, 0, "a b"],
        partitions=["x", 0, -1, 1.5, True],
        shards=["x", 0],
        replicas=[1.5, 0, 100],
        options=[5, {}],
        settings=[5, {}],
        observer=[5],
    ),
    **over(
        Response,
        status=["x", 99, 9999, True, None],
        headers=[5, {"x": 5}, {"a b": "x"}, [("a", "b")]],
        body=[object(), 5],
    ),
    "connect folder": lambda: connect(folder=5),
    "step of a number": lambda: step(5),
    "step of a class": lambda: step(int),
    "step of a generator": lambda: step(generating),
    "step of an async generator": lambda: step(streaming),
    "workflow of a number": lambda: workflow(5),
    "workflow of a sync function": lambda: workflow(plain),
    "workflow of a generator": lambda: workflow(streaming),
    "register of a number": lambda: register(5),
    "register of an object": lambda: register(object()),
    "register of half": lambda: register(encode=str)(Exception),
    "scope of a number": lambda: CancelScope(5),
    "callback of a number": lambda: CancelScope().on_cancel(5),
    "run of a number": lambda: Run(None, 5),
    "client's deployment": lambda: Client(None, observer=None, deployment=5),
    "client's settings": lambda: Client(None, observer=None, settings=5),
}


@pytest.mark.parametrize("case", ALONE.values(), ids=ALONE)
def test_option_is_refused_where_it_is_said(case: Case) -> None:
    with pytest.raises(OffbookError) as caught:
        case()
    assert isinstance(caught.value, InvalidOption | InvalidName)
    assert "must be" in str(caught.value)
    assert len(str(caught.value)) < 400


def of_client(client: Client, env: Environment) -> Cases:
    """Return the cases that need a client; the run `there` has ended."""
    run: Run[Any] = client.run("there")
    chunks, talk = run.stream("a"), client.topic("a")

    def started(**options: Any) -> Any:
        return client.start(returns, **options)

    def resumed(**options: Any) -> Any:
        return client.resume("token", 1, **options)

    def by_token(token: Any) -> Any:
        return client.resume(token, 1)

    def worker(**options: Any) -> Any:
        return Worker(client, **options)

    def listed(**options: Any) -> Any:
        return anext(client.runs(**options))

    def read(**options: Any) -> Any:
        return anext(chunks.read(**options))

    return {
        **over(resumed, id=[5, b"x", "", "x" * 257, LONE]),
        **over(by_token, token=[5, None, "", "x" * 1025, LONE]),
        **over(client.hook, token=[5, "", LONE]),
        **over(
            started,
            id=[5, "", "x" * 10**7, "a.b", LONE],
            attributes=[5, [("a", 1)], {5: 1}, {"a": object()}, {"a": NAIVE}, {"a": math.nan}],
            allow_reserved=["x", 1],
            at=["x", NAIVE, -1, math.nan, LATEST, timedelta.max, HUGE, True],
            retention=["x", -1, timedelta.max, NAIVE],
            deployment=[5, 0, "", "a.b"],
            on_conflict=[5, [], "x", None],
            resume=[5, (1, 2, 3), "ab", (1, 2), ("a", object()), ["a", 1]],
            resume_id=["x", 5],
        ),
        "attribute huge": lambda: started(attributes={"a": HUGE}),
        "attribute's year": lambda: started(attributes={"a": WESTERN}),
        "attribute's key": lambda: started(attributes={object(): 1}),
        "id of a resume": lambda: started(resume=("a", 1), resume_id=5),
        "start of a number": lambda: client.start(5),
        "start of nothing": lambda: client.start(None),
        "start of a step": lambda: client.start(some_step),
        "start of a bound one": lambda: client.start(returns.bind(1), 2),
        **over(client.run, id=[5, "", "a.b", None]),
        "handle of a number": lambda: client.run("a", 5),
        "handle of a step": lambda: client.run("a", some_step),
        **over(
            listed,
            status=["nope", 5, []],
            workflow=[5, some_step],
            attributes=[5, ["ab"], {5: 1}],
            since=["x", NAIVE, 5],
            until=["x", NAIVE, 5],
            deployment=[5, "a.b"],
            limit=["x", -1, 1.5, True, 10**30],
            cursor=[5, "!!", "aGVsbG8=", "ä", "gIA=", LONE],
        ),
        **over(
            lambda **options: client.topic(**{"name": "a", **options}),
            name=[5, "", "a.b.c"],
            type=[3, "int", object(), [int], asyncio, plain, dict[str, "int"]],
            author=[5, None, LONE],
            start=[1.5, "nope", None, [], True],
            follow=["x", 1],
            authors=[5, [5, "a"], "abc"],
        ),
        **over(
            run.stream,
            name=[5, "", "a.b"],
            type=[3, "int", object()],
            start=[1.5, "x", [], None, True, "1.2.3", "-1.0.0.0", f"{10**30}.0.0.0"],
            follow=["no", 1],
            view=["x", 5, []],
        ),
        **over(read, start=[1.5, [], "x", "9999999999999999999.0.0.0"], view=[5, []], follow=["x"]),
        **over(
            chunks.page,
            limit=["x", 0, 1.5, True, 10**30],
            cursor=[[], 1.5, "zz"],
        ),
        **over(run.cancel, reason=[5, b"x", LONE]),
        **over(run.terminate, reason=[5, b"x", LONE]),
        "wake of a number": lambda: run.wake(5),
        "wake of a list": lambda: run.wake(["a"]),
        "events": lambda: anext(run.events(follow="x")),
        "write": lambda: talk.write(object()),
        "write_many": lambda: talk.write_many(5),
        "write_from": lambda: talk.write_from([1]),
        "close of a topic": talk.close,
        "close": lambda: chunks.close(5),
        "put": lambda: talk.put(5),
        "worker of nothing": lambda: Worker(None),
        **over(
            worker,
            slots=[0, -1, "x", 1.5, math.nan, True, 10**30],
            workflows=[5, [5], returns, "x"],
            steps=[5, [5], some_step],
            queues=["default", 5, [5], [""]],
            deployment=[5, 0, ""],
            eager=["x", 1],
            lease=[-1, 0, "x", math.nan],
            grace=[-1, math.nan, timedelta.max],
            settings=[5, {}],
        ),
        "fake of a number": lambda: env.fake(5, plain),
        "fake by a number": lambda: env.fake(some_step, 5),
        "sleep outside": lambda: sleep("3"),
        "hook outside": lambda: hook(int),
        "start outside": lambda: offbook.start(returns),
        "scope entered twice": entered_twice,
    }


async def entered_twice() -> None:
    async with CancelScope() as scope, scope:
        pass


def in_body() -> Cases:
    """Return the cases of what only a body can call."""

    def child(**options: Any) -> Any:
        return offbook.start(returns, **options)

    def talk(**options: Any) -> Any:
        return topic(**{"name": "a", **options})

    there = Run[Any](None, "x")
    types = [3, object(), "int", asyncio, plain, [int], list[3], ...]  # pyright: ignore[reportInvalidTypeArguments] - the case
    return {
        **over(
            sleep,
            until=[
                *("3", math.nan, -1, 1e308, timedelta.max, timedelta.min, NAIVE, LATEST, HUGE),
                *(None, True, [], math.inf),
            ],
        ),
        **over(
            hook,
            type=types,
            token=[5, "", LONE, "x" * 1025],
            once=["yes", 1],
            expires=["x", NAIVE, -1, math.nan, LATEST],
            keep=[-1, "x", NAIVE, timedelta.max],
            metadata=[object()],
        ),
        **over(
            webhook,
            type=types,
            methods=[5, "GET", ["GETT"], [], [5]],
            base=[5, "http://[::1", ["x"], "ftp://x", LONE],
            wait=["x", -1],
            signed=[5, ""],
            respond_with=[5, [], "x"],
            once=[1],
        ),
        **over(
            child,
            id=[5, "", "x" * 129],
            detached=["no", 1],
            attributes=[5, [("a", 1)], {5: 1}, {"$a": 1}],
            retention=["x", -1, timedelta.max],
        ),
        "child of a number": lambda: offbook.start(5),
        "child of a step": lambda: offbook.start(some_step),
        "child of a function": lambda: offbook.start(len),
        "child of a bound one": lambda: offbook.start(returns.bind(1), 2),
        "child's arguments": lambda: offbook.start(returns, 1, 2),
        **over(stream, name=[5, "", "a.b"], type=[3, "int"]),
        **over(
            talk,
            name=[5, ""],
            type=[3],
            author=[5, LONE],
            start=["nope", 1.5],
            follow=["x"],
            authors=[5, [1, "a"], "abc"],
        ),
        **over(
            lambda **options: anext(topic("q").read(**options)), start=[1.5, [], 7], follow=["x"]
        ),
        "write": lambda: stream("a").write(object()),
        "write_many": lambda: stream("a").write_many(5),
        "close": lambda: stream("b").close(5),
        "attributes": lambda: set_attributes(5),
        "attribute": lambda: set_attributes(a=object()),
        "attribute's key": lambda: set_attributes({(): 1}),
        "attribute huge": lambda: set_attributes(a=HUGE),
        "attribute's year": lambda: set_attributes(a=WESTERN),
        "cancel": lambda: there.cancel(5),
        "wake": lambda: there.wake(5),
        "scope": lambda: CancelScope(5),
        "continue_as_new": lambda: offbook.continue_as_new(1, 2, 3),
        "a step's arguments": lambda: some_step(1, 2, 3),
        "a step's argument": lambda: some_step(object()),
    }


async def outcomes(cases: Mapping[str, Case]) -> dict[str, str]:
    """Return how each case ended that did not end as it should."""
    bad: dict[str, str] = {}
    for name, case in cases.items():
        try:
            found = case()
            if hasattr(found, "__await__") and not isinstance(found, Hook | Webhook):
                async with asyncio.timeout(5):
                    await found
        except OffbookError as error:
            if len(str(error)) > 400:
                bad[name] = "too long"
        except Exception as error:  # noqa: BLE001 - the case of this test
            bad[name] = repr(error)
        else:
            bad[name] = "accepted"
    return bad


@workflow
async def try_all() -> dict[str, str]:
    return await outcomes(in_body())


def test_bodies_are_told_what_they_cannot_ask() -> None:
    async def main() -> None:
        async with Environment() as env:
            run = await env.client.start(try_all)
            assert await run.result() == {}
            children = [s async for s in env.client.runs(workflow=returns)]
            assert children == []

    in_virtual_time(main())


def test_clients_are_told_what_they_cannot_ask() -> None:
    async def main() -> None:
        async with Environment() as env:
            run = await env.client.start(returns, 7, id="there")
            assert await run.result() == 7
            assert await outcomes(of_client(env.client, env)) == {}
            assert [s.id async for s in env.client.runs()] == ["there"]

    in_virtual_time(main())


@workflow
async def takes_one(token: str) -> int:
    return await hook(int, token=token)


def test_payload_with_an_odd_id_is_refused_and_not_lost() -> None:
    async def main() -> None:
        async with Environment() as env:
            run = await env.client.start(takes_one, "t")
            await env.wait_for_hook(run)
            with pytest.raises(InvalidOption, match="id must be text of 1 to 256 bytes, got int 5"):
                await env.client.resume("t", 1, id=5)
            assert "hook_received" not in await env.kinds(run)
            await env.client.resume("t", 2, id="5")
            assert await run.result() == 2

    in_virtual_time(main())


def test_error_names_the_field_the_type_and_what_it_must_be() -> None:
    with pytest.raises(InvalidOption) as caught:
        Retry(attempts=HUGE)
    assert str(caught.value) == (
        "retry.attempts must be a whole number, 1 or more and at most 1,000,000, "
        "got int that cannot be shown"
    )
