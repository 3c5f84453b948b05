"""Basics and control flow."""

# ruff: noqa: ANN401 - steps that take any value

import asyncio
import json
import threading
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from offbook import FatalError, Run, Step, hook, register, sleep, step, workflow
from support import greeter_one, greeter_two
from support.worlds import CatalogueEnvironment


@step
async def add(a: int, b: int) -> int:
    return a + b


@workflow
async def add_ten(x: int) -> int:
    return await add(x, 10)


async def test_start_returns_result(env: CatalogueEnvironment) -> None:
    run = await env.client.start(add_ten, 123)
    assert await run.result() == 133
    view = await run.view()
    assert view.input == {"x": 123}
    assert view.output == 133
    assert view.status == "completed"
    assert view.workflow == add_ten.name


async def test_same_function_name_in_two_modules(env: CatalogueEnvironment) -> None:
    one = await env.client.start(greeter_one.greet)
    two = await env.client.start(greeter_two.greet)
    assert await one.result() == "hello from one"
    assert await two.result() == "hello from two"
    views = await one.view(), await two.view()
    assert views[0].workflow != views[1].workflow
    assert views[0].steps[0].name != views[1].steps[0].name


async def test_latest_version_is_noop_when_only_one(env: CatalogueEnvironment) -> None:
    run = await env.client.start(add_ten, 123, deployment="default")
    assert await run.result() == 133
    assert (await run.view()).deployment == "default"


@step
async def letter(text: str, delay: float) -> str:
    await asyncio.sleep(delay)
    return text


@workflow
async def abc(unit: float) -> str:
    letters = await asyncio.gather(letter("A", 3 * unit), letter("B", unit), letter("C", 2 * unit))
    return "".join(letters)


async def test_gather_three_steps(env: CatalogueEnvironment) -> None:
    run = await env.client.start(abc, env.seconds(1))
    assert await run.result() == "ABC"


@workflow
async def first_of_three(unit: float) -> str:
    delays = {"A": 10.0, "B": 0.1 * unit, "C": 20.0}
    tasks = [asyncio.create_task(letter(text, delay)) for text, delay in delays.items()]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    return done.pop().result()


async def test_first_completed_wins(env: CatalogueEnvironment) -> None:
    run = await env.client.start(first_of_three, env.seconds(1))
    assert await run.result() == "B"
    steps = (await run.view()).steps
    assert {s.input["text"]: s.status for s in steps} == {
        "A": "cancelled",
        "B": "completed",
        "C": "cancelled",
    }


@step
async def doomed() -> str:
    raise FatalError("no use")


@workflow
async def first_success(unit: float) -> str:
    pending = {asyncio.create_task(doomed()), asyncio.create_task(letter("B", unit))}
    while True:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            if task.exception() is None:
                return task.result()


async def test_first_success_ignores_failed_branch(env: CatalogueEnvironment) -> None:
    run = await env.client.start(first_success, env.seconds(1))
    assert await run.result() == "B"
    statuses = [s.status for s in (await run.view()).steps]
    assert sorted(statuses) == ["completed", "failed"]


@dataclass
class Item:
    name: str
    counts: list[int] = field(default_factory=list[int])


@step
async def enrich(item: Item, extra: int) -> Item:
    return Item(item.name.upper(), [*item.counts, extra])


@workflow
async def mixed(unit: float, items: list[Item]) -> dict[str, Any]:
    total = await add(1, 2)
    enriched = await asyncio.gather(*(enrich(item, i) for i, item in enumerate(items)))
    await sleep(unit)
    timer = asyncio.create_task(sleep(30.0))
    quick = asyncio.create_task(letter("quick", 0))
    done, _ = await asyncio.wait({timer, quick}, return_when=asyncio.FIRST_COMPLETED)
    timer.cancel()
    async with hook(Item, token="mixed-boundaries") as h:
        payload, beside = await asyncio.gather(h, add(total, 4))
    slow = asyncio.create_task(letter("slow", 30.0))
    await asyncio.wait({slow, asyncio.create_task(sleep(unit))}, return_when="FIRST_COMPLETED")
    lost = slow.done()
    slow.cancel()
    return {
        "total": total,
        "enriched": enriched,
        "winner": [task.result() for task in done],
        "payload": payload,
        "beside": beside,
        "lost": lost,
    }


async def test_mixed_boundaries_exact_result(env: CatalogueEnvironment) -> None:
    run = await env.client.start(mixed, env.seconds(1), [Item("a"), Item("b", [7]), Item("c")])
    await env.wait_for_hook(run)
    await env.client.resume("mixed-boundaries", Item("paid", [1, 2]))
    assert await run.result() == {
        "total": 3,
        "enriched": [
            {"name": "A", "counts": [0]},
            {"name": "B", "counts": [7, 1]},
            {"name": "C", "counts": [2]},
        ],
        "winner": ["quick"],
        "payload": {"name": "paid", "counts": [1, 2]},
        "beside": 7,
        "lost": False,
    }
    kinds = await env.kinds(run)
    assert kinds.count("step_scheduled") == 7
    assert kinds.count("step_completed") == 6
    assert kinds.count("hook_received") == 1


@step
async def wait_and_return(index: int, delay: float) -> int:
    await asyncio.sleep(delay)
    return index


@workflow
async def race_until_none_is_left(delays: list[float]) -> list[int]:
    pending = {asyncio.create_task(wait_and_return(i, d)) for i, d in enumerate(delays)}
    results: list[int] = []
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        results += [task.result() for task in done]
    return results


async def test_race_loop_collects_every_result_once(env: CatalogueEnvironment) -> None:
    delays = [env.seconds(n) for n in (20, 5, 15, 0, 10)]
    run = await env.client.start(race_until_none_is_left, delays)
    assert sorted(await run.result()) == [0, 1, 2, 3, 4]


@step
async def echo(value: Any) -> Any:
    return value


@workflow
async def echo_twice(value: Any) -> Any:
    return await echo(await echo(value))


async def test_null_byte_survives(env: CatalogueEnvironment) -> None:
    run = await env.client.start(echo_twice, "ends with NUL\0")
    assert await run.result() == "ends with NUL\0"


async def test_step_outside_run_is_plain_call(env: CatalogueEnvironment) -> None:
    assert await add(3, 5) == 8
    assert [summary async for summary in env.client.runs()] == []


@step
async def add_thrice(x: int) -> int:
    return await add(x, await add(x, x))


@workflow
async def nested_steps(x: int) -> int:
    return await add_thrice(x)


async def test_step_inside_step_is_plain_call(env: CatalogueEnvironment) -> None:
    run = await env.client.start(nested_steps, 4)
    assert await run.result() == 12
    assert [s.name for s in (await run.view()).steps] == [add_thrice.name]


@step
async def apply(fn: Step[..., int], a: int, b: int) -> int:
    total: int = await fn(a, b)
    return total


@workflow
async def pass_a_step() -> int:
    return await apply(add, 25, 15)


async def test_step_reference_as_argument(env: CatalogueEnvironment) -> None:
    run = await env.client.start(pass_a_step)
    assert await run.result() == 40
    assert [s.name for s in (await run.view()).steps] == [apply.name]


@workflow
async def use_a_step(fn: Step[..., int]) -> list[int]:
    direct = await fn(3, 5)
    through = await apply(fn, 3, 5)
    return [direct, through, await fn(direct, through)]


async def test_step_reference_as_start_argument(env: CatalogueEnvironment) -> None:
    run = await env.client.start(use_a_step, add)
    assert await run.result() == [8, 8, 16]


class Calculator:
    factor = 5

    @step
    @staticmethod
    async def square(x: int) -> int:
        return x * x

    @staticmethod
    @step
    async def times_five(x: int) -> int:
        return x * Calculator.factor

    @workflow
    @staticmethod
    async def squared(x: int) -> int:
        square: int = await Calculator.square(x)
        return square

    @step
    @classmethod
    async def scale(cls, x: int) -> int:
        return x * int(cls.factor)

    @workflow
    @classmethod
    async def scaled_twice(cls, x: int) -> list[int]:
        once = await cls.scale(x)
        return [once, await Calculator.times_five(once) - 2 * once]


async def test_static_and_class_method_steps(env: CatalogueEnvironment) -> None:
    squared = await env.client.start(Calculator.squared, 4)
    assert await squared.result() == 16
    scaled = await env.client.start(Calculator.scaled_twice, 10)
    assert await scaled.result() == [50, 150]
    assert await Calculator.scale(3) == await Calculator().scale(3) == 15
    assert await Calculator().square(3) == 9


@register
@dataclass
class Counter:
    count: int

    @step
    async def plus(self, amount: int) -> int:
        self.count += amount
        return self.count


@workflow
async def count_up(start: int) -> list[int]:
    counter = Counter(start)
    first = await counter.plus(3)
    counter.count = 100
    second = await counter.plus(1)
    return [first, second, counter.count]


async def test_instance_method_step_carries_self(env: CatalogueEnvironment) -> None:
    run = await env.client.start(count_up, 5)
    assert await run.result() == [8, 101, 100]


@step
async def spoil(values: list[int], by_name: dict[str, int]) -> int:
    values.clear()
    by_name["spoiled"] = 1
    return len(values)


@workflow
async def keep_my_copy(values: list[int]) -> list[Any]:
    by_name = {"mine": 1}
    left = await spoil(values, by_name)
    return [left, values, by_name]


async def test_argument_mutation_does_not_leak(env: CatalogueEnvironment) -> None:
    values = [1, 2, 3]
    run = await env.client.start(keep_my_copy, values)
    assert await run.result() == [0, [1, 2, 3], {"mine": 1}]
    assert values == [1, 2, 3]


@workflow
async def call_inline(x: int) -> int:
    return await add_ten(await add_ten(x))


async def test_inline_child_call_shares_log(env: CatalogueEnvironment) -> None:
    run = await env.client.start(call_inline, 1)
    assert await run.result() == 21
    assert len((await run.view()).steps) == 2
    assert [s.id async for s in env.client.runs()] == [run.id]


class _Answer(BaseHTTPRequestHandler):
    requests: list[str]

    def do_GET(self) -> None:
        self.requests.append(self.path)
        body = json.dumps({"path": self.path, "count": len(self.requests)}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as in the base
        pass


@contextmanager
def _web_server() -> Generator[tuple[str, list[str]]]:
    seen: list[str] = []
    handler = type("_Handler", (_Answer,), {"requests": seen})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", seen
        finally:
            server.shutdown()
            thread.join()


@step
def request(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url, timeout=10) as response:
        answer: dict[str, Any] = json.load(response)
        return answer


@workflow
async def fetch(url: str, pause: float) -> dict[str, Any]:
    answer = await request(url)
    await sleep(pause)
    return answer


async def test_http_request_from_workflow(env: CatalogueEnvironment) -> None:
    with _web_server() as (url, seen):
        run = await env.client.start(fetch, f"{url}/item/7", env.seconds(10))
        assert await run.result() == {"path": "/item/7", "count": 1}
    assert seen == ["/item/7"]
    assert (await env.kinds(run)).count("step_completed") == 1


@register
@dataclass
class Money:
    amount: int
    currency: str = "EUR"


@register(encode=lambda v: [v.x, v.y], decode=lambda plain: Vector(*plain))
class Vector:
    def __init__(self, x: int, y: int) -> None:
        self.x = x
        self.y = y

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vector) and (self.x, self.y) == (other.x, other.y)

    def __hash__(self) -> int:
        return hash((self.x, self.y))


@step
async def double(money: Money, vector: Vector) -> tuple[Money, Vector]:
    return Money(money.amount * 2, money.currency), Vector(vector.x * 2, vector.y * 2)


@step
async def pack_parcel(label: str) -> Any:
    from support.parcels import Parcel  # noqa: PLC0415 - only step code imports it

    return Parcel(label, 250)


@step
async def weigh(parcel: Any) -> int:
    from support.parcels import Parcel  # noqa: PLC0415 - only step code imports it

    assert isinstance(parcel, Parcel)
    return parcel.grams


@workflow
async def carry(money: Money, vector: Vector) -> Any:
    money, vector = await double(money, vector)
    parcel = await pack_parcel("books")
    await sleep(timedelta(milliseconds=1))
    grams = await weigh(parcel)
    return {"money": money, "vector": vector, "grams": grams, "types": type(vector).__name__}


async def test_custom_class_round_trip(env: CatalogueEnvironment) -> None:
    run: Run[Any] = await env.client.start(carry, Money(5), Vector(1, 2))
    assert await run.result() == {
        "money": Money(10),
        "vector": Vector(2, 4),
        "grams": 250,
        "types": "Vector",
    }
