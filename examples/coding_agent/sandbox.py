"""What a sandbox is to the agent: a place of its own for files and commands.

`local_sandbox` has one on this machine. A hosted one is an object with these methods.
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

Reason: TypeAlias = Literal["", "time", "memory", "stopped"]


class SandboxError(Exception):
    """What cannot be done in a sandbox; its text is for the model."""


@dataclass(frozen=True, slots=True)
class Output:
    """More of what a command has printed, to standard output or error."""

    text: str


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended.

    code: its exit code, below 0 where a signal ended it. reason: which limit ended it, if one did.
    cut: how many bytes it printed that nobody is shown.
    """

    code: int
    reason: Reason = ""
    cut: int = 0


class Sandboxes(Protocol):
    """Sandboxes by name. Every method may be called again after a crash, in another process."""

    async def create(self, name: str) -> None:
        """Make a sandbox, unless it is there.

        Raises:
            SandboxError: it cannot be made.
        """
        ...

    async def remove(self, name: str) -> None:
        """Remove a sandbox with all that is in it, if it is there."""
        ...

    async def write(self, name: str, path: str, content: str) -> int:
        """Write a file, with the folders above it; return its size in bytes.

        Raises:
            SandboxError: there is no such sandbox, or the path leads out of it.
        """
        ...

    async def read(self, name: str, path: str) -> bytes:
        """Return what is in a file.

        Raises:
            SandboxError: there is no such file, or the path leads out of the sandbox.
        """
        ...

    async def files(self, name: str) -> list[str]:
        """Return the paths of the files, sorted.

        Raises:
            SandboxError: there is no such sandbox.
        """
        ...

    def run(self, name: str, command: str) -> AsyncGenerator[Output | Ended]:
        """Run a command of the shell; yield what it prints as it comes, and last `Ended`.

        When the generator is closed, or the process that reads it dies, the command ends, and so
        does all that it has started.

        Raises:
            SandboxError: there is no such sandbox.
        """
        ...
