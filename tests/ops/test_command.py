"""The command against a real embedded server, with a worker in a process of its own."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.commands import Place

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

SHOP = """
import asyncio
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from offbook import hook, sleep, start, step, workflow


@dataclass
class Order:
    id: str
    amount: int = 1


@step(retry=0)
async def charge(order: Order) -> str:
    if order.amount < 0:
        raise ValueError("an amount below zero")
    return f"receipt for {order.id}"


@step
async def slow(folder: str) -> str:
    (Path(folder) / "began").touch()
    await asyncio.sleep(1)
    return "done"


@workflow
async def checkout(order: Order) -> str:
    receipt = await charge(order)
    approved = await hook(bool, token=f"approve:{order.id}")
    return f"{receipt}: {approved}"


@workflow
async def nap(seconds: float) -> str:
    await sleep(timedelta(seconds=seconds))
    return "awake"


@workflow
async def family() -> str:
    return await (await start(nap, 3600, id="kid")).result()


@workflow
async def long(folder: str) -> str:
    return await slow(folder)
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A folder with a module and a worker that serves it."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "shop.py").write_text(SHOP)
    place = Place(folder)
    with place.background("worker", "shop", "--json") as worker:
        assert worker.until(ready=True)["workflows"] == [
            "shop.checkout", "shop.family", "shop.long", "shop.nap"
        ]  # fmt: skip
        yield place
        assert worker.stop() == 0


def seen(shop: Place, run: str, kind: str, count: int = 1) -> None:
    """Return once a run's history has events of a kind."""
    with shop.background("events", run, "--follow", "--json") as events:
        for _ in range(count):
            events.until(type=kind)


def test_a_run_goes_from_start_to_result(shop: Place) -> None:
    started = shop("start", "shop:checkout", '{"id": "7"}', "--id", "seven")
    assert (started.code, started.out) == (0, "seven\n")
    seen(shop, "seven", "hook_opened")

    view = shop("show", "seven", "--module", "shop", "--json").data
    assert view["status"] == "running"
    assert [(s["name"], s["status"]) for s in view["steps"]] == [("shop.charge", "completed")]
    assert [w["kind"] for w in view["waits"]] == ["hook"]
    line = next(i for i, text in enumerate(SHOP.splitlines(), 1) if "approved = await" in text)
    assert view["where"] == [f"0: {shop.folder / 'shop.py'}:{line} in checkout"]

    assert shop.inside("resume", "approve:7", "true", "--id", "mine").out == "seven\n"
    assert shop.inside("result", "seven").out == "receipt for 7: True\n"
    again = shop.inside("resume", "approve:7", "true", "--id", "mine", "--json")
    assert again.data == {"run": "seven"}
    kinds = [event["type"] for event in shop.inside("events", "seven", "--json").lines]
    assert kinds[0] == "run_created"
    assert kinds[-1] == "run_completed"


def test_a_failed_run_is_exit_code_1_and_says_why(shop: Place) -> None:
    failed = shop("start", "shop:checkout", '{"id": "8", "amount": -1}', "--wait", "--json")
    assert (failed.code, failed.out) == (1, "")
    assert failed.error["code"] == "run-failed"
    cause = failed.error["cause"]
    assert (cause["type"], cause["message"]) == ("ValueError", "an amount below zero")
    line = next(i for i, text in enumerate(SHOP.splitlines(), 1) if "raise ValueError" in text)
    assert cause["line"] == f"{shop.folder / 'shop.py'}:{line} in charge"

    run = failed.error["run"]
    told = shop.inside("result", run).err.splitlines()
    assert told == [
        f"error: run {run!r} failed: ValueError: an amount below zero",
        f"  at shop.py:{line} in charge",
        f"  the traceback: offbook show {run}",
    ]
    shown = shop.inside("show", run).out
    assert f"traceback, at shop.py:{line} in charge\n" in shown
    assert '    raise ValueError("an amount below zero")\n' in shown
    error = shop.inside("show", run, "--json").data["error"]
    assert error == cause


def test_what_is_not_there_is_exit_code_3(shop: Place) -> None:
    assert shop.inside("show", "nobody", "--json").error["code"] == "run-not-found"
    codes = [
        shop.inside(*words).code for words in (("result", "nobody"), ("resume", "nothing", "1"))
    ]
    assert codes == [3, 3]


def test_an_id_that_is_taken_is_a_conflict(shop: Place) -> None:
    assert shop("start", "shop:nap", "3600", "--id", "taken").code == 0
    assert shop("start", "shop:nap", "3600", "--id", "taken").code == 0
    other = shop("start", "shop:nap", "60", "--id", "taken", "--json")
    assert (other.code, other.error["code"]) == (1, "run-conflict")
    assert "--on-conflict attach" in other.error["message"]


def test_waiting_for_a_result_can_time_out(shop: Place) -> None:
    shop("start", "shop:nap", "3600", "--id", "sleeper")
    late = shop.inside("result", "sleeper", "--timeout", "200ms", "--json")
    assert (late.code, late.error["code"]) == (5, "timeout")
    seen(shop, "sleeper", "timer_started")
    assert shop.inside("wake", "sleeper", "--json").data == {"run": "sleeper", "woken": 1}
    assert shop.inside("result", "sleeper", "--json").data["result"] == "awake"


def test_runs_are_listed_by_filter_and_cursor(shop: Place) -> None:
    for number in range(3):
        name = f"listed-{number}"
        options = ("--attribute", "tenant=acme", "--attribute", f"n={number}", "--id", name)
        assert shop("start", "shop:nap", "3600", *options).code == 0
        seen(shop, name, "timer_started")
    first = shop.inside("runs", "--attribute", "tenant=acme", "--limit", "2", "--json").lines
    assert [run["id"] for run in first] == ["listed-2", "listed-1"]
    rest = shop.inside(
        "runs", "--attribute", "tenant=acme", "--cursor", first[-1]["cursor"], "--json"
    )
    assert [run["id"] for run in rest.lines] == ["listed-0"]
    shown = shop.inside("runs", "--attribute", "n=2", "--workflow", "shop.nap", "--since", "1h").out
    assert "listed-2  shop.nap" in shown
    assert "tenant=acme n=2" in shown
    assert shop.inside("runs", "--attribute", "n=2", "--status", "completed", "--json").out == ""


def test_runs_are_cancelled_and_purged(shop: Place) -> None:
    shop("start", "shop:family", "--id", "parent")
    seen(shop, "kid", "timer_started")
    children = shop.inside("show", "parent", "--json").data["children"]
    assert [(c["run"], c["status"]) for c in children] == [("kid", "running")]
    refused = shop.inside("cancel", "--workflow", "shop.family")
    assert (refused.code, "Say --yes" in refused.err) == (2, True)
    done = shop.inside(
        "cancel", "--workflow", "shop.family", "--yes", "--reason", "enough", "--json"
    )
    assert done.data == {"cancelled": ["parent"]}
    ended = shop.inside("result", "parent", "--json")
    assert (ended.code, ended.error["code"]) == (1, "run-cancelled")
    assert "enough" in ended.error["message"]
    assert shop.inside("result", "kid").code == 1
    assert shop.inside("cancel", "parent", "--json").data == {
        "cancelled": [], "ended": {"parent": "cancelled"}
    }  # fmt: skip
    late = shop.inside("terminate", "parent")
    assert (late.code, late.out) == (0, "")
    assert "run 'parent' has ended before: it is cancelled" in late.err

    assert shop.inside("purge", "kid").code == 2
    assert shop.inside("purge", "kid", "--yes", "--json").data == {"purged": ["kid"]}
    gone = shop.inside("result", "kid", "--json")
    assert (gone.code, gone.error["code"]) == (3, "run-expired")


def test_a_run_that_goes_on_is_not_purged_but_terminated(shop: Place) -> None:
    shop("start", "shop:nap", "3600", "--id", "living")
    assert shop.inside("purge", "living", "--yes", "--json").error["code"] == "run-not-ended"
    assert shop.inside("terminate", "living", "--reason", "over").out == "living\n"
    assert shop.inside("result", "living", "--json").error["code"] == "run-terminated"


def test_health_and_doctor_find_nothing_wrong(shop: Place) -> None:
    health = shop.inside("health", "--json")
    assert (health.code, health.data["problems"]) == (0, [])
    (deployment,) = health.data["deployments"]
    (worker,) = deployment["workers"]
    assert worker["partitions"] == list(range(16))
    doctor = shop.inside("doctor", "--json")
    assert (doctor.code, doctor.data["findings"]) == (0, [])
    assert shop.inside("doctor").out.endswith("all is well\n")


def test_the_doctor_finds_runs_that_nobody_serves(shop: Place) -> None:
    shop("start", "shop:nap", "1", "--deployment", "next", "--id", "early", "--namespace", "other")
    doctor = shop.inside("doctor", "--json", "--namespace", "other")
    assert doctor.code == 1
    (finding,) = doctor.data["findings"]
    assert (finding["code"], finding["runs"]) == ("no-worker", ["early"])
    assert shop.inside("health", "--namespace", "other").code == 0


def test_where_no_worker_is_live_commands_say_so(shop: Place) -> None:
    bare = ("--namespace", "bare")
    assert shop.inside("runs", *bare).out == (
        f"no runs in namespace bare at the embedded server of {shop.folder / '.offbook'}\n"
    )
    started = shop("start", "shop:nap", "1", "--id", "idle", *bare)
    assert (started.code, started.out) == (0, "idle\n")
    note = "note: no live worker serves deployment 'default'; start one: offbook worker "
    assert started.err == f"{note}shop\n"
    assert shop.inside("show", "idle", *bare).err == f"{note}MODULE\n"
    assert shop.inside("health", *bare).out.endswith("workers       0\n")
    for command in ("cancel", "terminate"):
        asked = shop.inside(command, "idle", *bare)
        assert (asked.code, asked.out) == (0, "idle\n")
        assert "note: asked; no worker of deployment 'default' is live" in asked.err
    data = shop.inside("cancel", "idle", "--json", *bare).data
    assert data == {"cancelled": ["idle"], "unserved": ["idle"]}
    assert "of that kind" in shop.inside("runs", "--status", "failed", *bare).out


def test_a_namespace_is_made_once(shop: Place) -> None:
    made = shop.inside("namespace", "init", "--namespace", "small", "--partitions", "2", "--json")
    assert made.data["partitions"] == 2
    other = shop.inside("--json", "namespace", "init", "--namespace", "small", "--partitions", "3")
    assert (other.code, other.error["code"]) == (4, "namespace-mismatch")
    assert shop.inside("namespace", "status", "--namespace", "small", "--json").data["runs"] == {}


def test_the_state_of_the_server_has_no_secrets(shop: Place) -> None:
    status = shop.inside("server", "status", "--json")
    assert (status.code, status.data["ready"]) == (0, True)
    password = (shop.folder / ".offbook" / "server.json").read_text().split('"password": "')[1]
    secret = password.partition('"')[0]
    assert len(secret) > 20
    for words in (("server", "status"), ("health",), ("doctor", "--json"), ("health", "--json")):
        assert secret not in shop.inside(*words).out


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_steps_end_before_the_worker_does(
    tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    place = Place(tmp_path)
    with place.background("worker", "shop", "--json") as worker:
        worker.until(ready=True)
        place("start", "shop:long", f"folder={tmp_path}", "--id", "long")
        seen(place, "long", "step_scheduled")
        worker.process.send_signal(number)
        worker.until(draining=True)
        assert worker.process.wait() == 0
        steps = place("show", "long", "--json").data["steps"]
        assert [step["status"] for step in steps] == ["completed"]


def test_a_second_signal_ends_the_worker_at_once(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SHOP.replace("sleep(1)", "sleep(3600)"))
    place = Place(tmp_path)
    with place.background("worker", "shop", "--json") as worker:
        worker.until(ready=True)
        place("start", "shop:long", f"folder={tmp_path}", "--id", "long")
        seen(place, "long", "step_scheduled")
        worker.process.send_signal(signal.SIGTERM)
        worker.until(draining=True)
        assert worker.stop(signal.SIGTERM) == 128 + signal.SIGTERM


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("shop:nothing", "has no 'nothing'"),
        ("shop:Order", "gave Order, not a Worker"),
        ("json", "registers no workflow and no step"),
        ("nowhere", "there is no module 'nowhere'"),
    ],
)
def test_a_worker_with_nothing_to_serve_says_so(shop: Place, target: str, message: str) -> None:
    done = shop("worker", target, "--json")
    assert done.code == 2
    assert message in done.error["message"]


def test_a_worker_serves_what_an_attribute_holds(tmp_path: Path) -> None:
    more = "\n\nfrom offbook import Worker\npicked = [nap]\n\n\n"
    more += "def make(client):\n    return Worker(client, workflows=[nap], deployment='made')\n"
    (tmp_path / "shop.py").write_text(SHOP + more)
    place = Place(tmp_path)
    for target, deployment in (("shop:picked", "default"), ("shop:make", "made")):
        with place.background("worker", target, "--json") as worker:
            assert worker.until(ready=True)["deployment"] == deployment
            words = ("start", "shop:nap", "0", "--deployment", deployment, "--wait", "--json")
            assert place(*words).data["result"] == "awake"
            unknown = place("start", "shop:family", "--deployment", deployment, "--json")
            assert (unknown.code, unknown.error["code"]) == (3, "workflow-not-registered")
            assert worker.stop() == 0
    refused = place("worker", "shop:make", "--slots", "3", "--json")
    assert (refused.code, "leave out slots" in refused.error["message"]) == (2, True)
