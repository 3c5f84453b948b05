"""A headless Chromium, spoken to through a pipe in its own protocol."""

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
from contextlib import suppress
from typing import Any, Self

_START = """
import os, sys
for wanted, given in ((30, sys.argv[1]), (31, sys.argv[2]), (3, 30), (4, 31)):
    os.dup2(int(given), wanted)
os.execvp(sys.argv[3], sys.argv[3:])
"""
_OPTIONS = ("--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu",
            "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
            "--disable-component-update", "--disable-extensions", "about:blank")  # fmt: skip
_ANSWER_SECONDS = 60.0
_REPLACED = "Not attached to an active page"
"""What is said of a page between the commit of a navigation and the end of the page before."""


def browser_program() -> str:
    """Return the browser.

    Raises:
        RuntimeError: it is missing.
    """
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        raise RuntimeError("missing: chromium; `make test` installs it")
    return found


class Chromium:
    """One browser with one page."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(
            prefix="offbook-chromium-", ignore_cleanup_errors=True
        )
        self._process: asyncio.subprocess.Process | None = None
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._count = 0
        self._session: str | None = None
        self._out = -1
        self._reading: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        theirs_in, self._out = os.pipe()
        ours_in, theirs_out = os.pipe()
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _START, str(theirs_in), str(theirs_out), browser_program(),
            *_OPTIONS, f"--user-data-dir={self._folder.name}", pass_fds=(theirs_in, theirs_out),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        os.close(theirs_in)
        os.close(theirs_out)
        self._reading = asyncio.ensure_future(self._read(ours_in))
        target = await self._call("Target.createTarget", url="about:blank")
        found = await self._call("Target.attachToTarget", flatten=True, **target)
        self._session = found["sessionId"]
        await self._call("Page.enable")
        return self

    async def __aexit__(self, *_error: object) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.wait()
        if self._reading is not None:
            await self._reading
        os.close(self._out)
        self._folder.cleanup()

    async def _read(self, fd: int) -> None:
        reader = asyncio.StreamReader(limit=1 << 26)
        protocol = asyncio.StreamReaderProtocol(reader)
        pipe = os.fdopen(fd, "rb", 0)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, pipe)
        try:
            while True:
                message = json.loads((await reader.readuntil(b"\0"))[:-1])
                waiting = self._answers.pop(message.get("id", 0), None)
                if waiting is not None and not waiting.done():  # nobody waits after a timeout
                    waiting.set_result(message)
        except asyncio.IncompleteReadError:
            for waiting in (one for one in self._answers.values() if not one.done()):
                waiting.set_exception(ConnectionError("the browser is gone"))
        finally:
            transport.close()

    async def _call(self, method: str, **params: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
        return await self._ask(self._session, method, params)

    async def _ask(
        self, session: str | None, method: str, params: dict[str, Any]
    ) -> dict[str, Any]:
        self._count += 1
        order: dict[str, Any] = {"id": self._count, "method": method, "params": params}
        if session is not None:
            order["sessionId"] = session
        answer = self._answers[self._count] = asyncio.get_running_loop().create_future()
        os.write(self._out, json.dumps(order).encode() + b"\0")
        async with asyncio.timeout(_ANSWER_SECONDS):
            message = await answer
        if "error" in message:
            raise RuntimeError(f"{method}: {message['error']}")
        found: dict[str, Any] = message["result"]
        return found

    async def go(self, url: str) -> None:
        """Open an address."""
        await self._call("Page.navigate", url=url)

    async def load_again(self) -> None:
        """What a person does with F5; again where the page was just being replaced."""
        while True:
            try:
                await self._call("Page.reload")
            except RuntimeError as error:
                if _REPLACED not in str(error):
                    raise
                await asyncio.sleep(0.02)
            else:
                return

    async def resize(self, width: int, height: int) -> None:
        """Give the page a size, in pixels."""
        size: dict[str, Any] = {
            "width": width,
            "height": height,
            "deviceScaleFactor": 1,
            "mobile": False,
        }
        await self._call("Emulation.setDeviceMetricsOverride", **size)

    async def run(self, script: str, *, frame: str = "") -> Any:  # noqa: ANN401 - JSON
        """Return what an expression of JavaScript is; None while the page changes.

        frame: run it in the frame whose address holds this, and not in the page.
        """
        asked: dict[str, Any] = {"expression": script, "returnByValue": True}
        try:
            session, place = await self._frame(frame) if frame else (self._session, {})
            found = await self._ask(session, "Runtime.evaluate", asked | place)
        except (RuntimeError, LookupError):
            return None
        return found["result"].get("value")

    async def _frame(self, address: str) -> tuple[str | None, dict[str, Any]]:
        """Return where scripts of a frame run: in a process of its own, or beside the page."""
        for target in (await self._call("Target.getTargets"))["targetInfos"]:
            if target["type"] == "iframe" and address in target["url"]:
                known: dict[str, Any] = {"targetId": target["targetId"], "flatten": True}
                return (await self._call("Target.attachToTarget", **known))["sessionId"], {}
        tree = (await self._call("Page.getFrameTree"))["frameTree"]
        inner = (child["frame"] for child in tree.get("childFrames", ()))
        found = next((frame["id"] for frame in inner if address in frame["url"]), None)
        if found is None:
            raise LookupError(address)
        world = await self._call("Page.createIsolatedWorld", frameId=found)
        return self._session, {"contextId": world["executionContextId"]}

    async def until(self, script: str, *, frame: str = "") -> None:
        """Return once an expression is true."""
        while await self.run(script, frame=frame) is not True:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.02)

    async def click(self, selector: str) -> None:
        """Press a button, once it is there and can be pressed."""
        button = f"document.querySelector({json.dumps(selector)})"
        await self.until(f"!!{button} && !{button}.disabled")
        await self.run(f"{button}.click()")

    async def type(self, selector: str, text: str) -> None:
        """Type into a field, and press Enter."""
        await self.until(f"!!document.querySelector({json.dumps(selector)})")
        await self.run(f"document.querySelector({json.dumps(selector)}).focus()")
        await self._call("Input.insertText", text=text)
        enter = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13}
        await self._call("Input.dispatchKeyEvent", type="keyDown", text="\r", **enter)
        await self._call("Input.dispatchKeyEvent", type="keyUp", **enter)

    async def picture(self) -> str:
        """Return what the page looks like, as base64 of a PNG."""
        found: str = (await self._call("Page.captureScreenshot"))["data"]
        return found
