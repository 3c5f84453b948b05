import asyncio
import socket
import sys
import threading
import time
from typing import Any

import pytest

from offbook.adapters.memory.time import EPOCH, Deadlock, VirtualClock, VirtualLoop, run

YEAR = 365 * 86400.0


@pytest.mark.virtual
async def test_a_century_of_sleep_passes_at_once() -> None:
    loop = asyncio.get_running_loop()
    await asyncio.sleep(100 * YEAR)
    assert loop.time() == 100 * YEAR


@pytest.mark.virtual
async def test_close_timers_far_from_zero_all_fire_in_order() -> None:
    loop = asyncio.get_running_loop()
    await asyncio.sleep(1000 * YEAR)
    fired = list[int]()
    for i in (3, 1, 2):
        loop.call_later(i / 1000, fired.append, i)
    await asyncio.sleep(1)
    assert fired == [1, 2, 3]


@pytest.mark.virtual
async def test_the_clock_stands_still_while_a_thread_works() -> None:
    loop = asyncio.get_running_loop()
    timer = loop.call_later(60, lambda: None)
    await asyncio.to_thread(time.sleep, 0.05)
    assert loop.time() == 0
    timer.cancel()


@pytest.mark.virtual
async def test_a_timeout_ends_the_wait_for_a_thread() -> None:
    release = threading.Event()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await asyncio.to_thread(release.wait)
    release.set()


@pytest.mark.virtual
async def test_a_thread_may_wait_for_a_timer_of_the_loop() -> None:
    loop = asyncio.get_running_loop()

    def work() -> float:
        nap = asyncio.run_coroutine_threadsafe(asyncio.sleep(0.02), loop)
        nap.result()
        return loop.time()

    assert await asyncio.to_thread(work) == 0.02


@pytest.mark.virtual
async def test_the_loop_jumps_again_after_a_thread() -> None:
    await asyncio.to_thread(time.sleep, 0.01)
    await asyncio.sleep(YEAR)
    assert asyncio.get_running_loop().time() == YEAR


@pytest.mark.virtual
async def test_a_cancelled_job_is_still_waited_for() -> None:
    loop = asyncio.get_running_loop()
    release, done = threading.Event(), threading.Event()

    def work() -> None:
        release.wait()
        done.set()

    job = loop.run_in_executor(None, work)
    await asyncio.sleep(0)
    job.cancel()
    loop.call_soon(release.set)
    await asyncio.sleep(3600)
    assert done.is_set()


@pytest.mark.virtual
async def test_a_socket_is_served_before_the_clock_jumps() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with asyncio.timeout(3600):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"hello\n")
            assert await reader.readline() == b"hello\n"
            writer.close()
            await writer.wait_closed()
        await asyncio.sleep(YEAR)


@pytest.mark.virtual
async def test_a_slow_peer_is_waited_for_in_real_time() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    here, there = socket.socketpair()
    here.settimeout(0)
    with here, there, loop.real_time():
        peer = threading.Timer(0.05, there.send, [b"x"])
        peer.start()
        async with asyncio.timeout(3600):
            assert await loop.sock_recv(here, 1) == b"x"
        peer.join()
    assert loop.time() == 0


def test_a_silent_socket_gets_its_grace_before_a_jump() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        here, there = socket.socketpair()
        here.settimeout(0)
        with here, there:
            peer = threading.Timer(0.05, there.send, [b"x"])
            peer.start()
            async with asyncio.timeout(3600):
                assert await loop.sock_recv(here, 1) == b"x"
            peer.join()
        return loop.time()

    with asyncio.Runner(loop_factory=lambda: VirtualLoop(grace=20)) as runner:
        assert runner.run(main()) == 0


@pytest.mark.virtual
async def test_a_child_process_is_waited_for_in_real_time() -> None:
    code = "import time; time.sleep(0.05); print('done')"
    async with asyncio.timeout(3600):
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await child.communicate()
    assert output.strip() == b"done"
    assert asyncio.get_running_loop().time() == 0


@pytest.mark.virtual
async def test_a_call_from_another_thread_wakes_the_loop() -> None:
    loop = asyncio.get_running_loop()
    arrived = asyncio.Event()
    thread = threading.Timer(0.02, loop.call_soon_threadsafe, [arrived.set])
    thread.start()
    assert await arrived.wait()
    thread.join()


def test_a_deadlock_names_the_tasks_that_wait() -> None:
    async def never(event: asyncio.Event) -> None:
        await event.wait()

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(never(asyncio.Event()), name="forlorn")

    with pytest.raises(Deadlock) as caught:
        run(main())
    assert any("forlorn" in line and "wait in" in line for line in caught.value.waiting)
    assert "forlorn" in str(caught.value)


def test_run_returns_what_the_coroutine_returns() -> None:
    async def main() -> int:
        await asyncio.sleep(10)
        return VirtualClock().now()

    assert run(main()) == EPOCH + 10_000_000


@pytest.mark.parametrize("seed", range(3))
def test_two_runs_of_a_program_see_the_same_times(seed: int) -> None:
    async def program() -> list[Any]:
        seen = list[Any]()

        async def worker(i: int) -> None:
            for k in range(5):
                await asyncio.sleep(((i * 7 + k * 3 + seed) % 11) / 10)
                seen.append((i, asyncio.get_running_loop().time()))

        async with asyncio.TaskGroup() as group:
            for i in range(5):
                group.create_task(worker(i))
        return seen

    assert run(program()) == run(program())


@pytest.mark.virtual
async def test_a_skewed_clock_is_off_by_its_skew() -> None:
    loop = asyncio.get_running_loop()
    assert VirtualClock(loop, skew=-3600).now() == VirtualClock(loop).now() - 3_600_000_000
