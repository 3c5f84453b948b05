"""Where a client was opened: its connection lives in one event loop of one process."""

import os
from asyncio import AbstractEventLoop, events

from .errors import ClientElsewhere


class Whereabouts:
    """The event loop and the process of whoever makes this."""

    def __init__(self) -> None:
        self._loop: AbstractEventLoop | None = events._get_running_loop()  # noqa: SLF001 - None is no error
        self._process = os.getpid()

    def check(self) -> None:
        """Check that the caller is there too; threads without a loop and bodies are let through.

        Raises:
            ClientElsewhere: it is not.
        """
        if os.getpid() != self._process:
            raise ClientElsewhere("process")
        running = events._get_running_loop()  # noqa: SLF001 - the cheap one
        if running not in (None, self._loop) and getattr(running, "machine", None) is None:
            raise ClientElsewhere("event loop")
