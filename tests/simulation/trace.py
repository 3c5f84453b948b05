"""What happened in a simulation, line by line: equal bytes are equal lives."""

import hashlib
from collections import deque
from pathlib import Path


class Trace:
    """Hashes all lines, and keeps the newest, or writes all into a file."""

    def __init__(self, file: Path | None = None, keep: int = 200) -> None:
        self._hash = hashlib.sha256()
        self._out = None if file is None else file.open("w", encoding="utf-8")
        self.count = 0
        self.newest: deque[str] = deque(maxlen=keep)

    def add(self, time: float, who: str, what: str) -> None:
        """Add a line; `time` is in virtual seconds."""
        line = f"{time:.6f} {who} {what}\n"
        self._hash.update(line.encode())
        self.count += 1
        self.newest.append(line)
        if self._out is not None:
            self._out.write(line)

    def close(self) -> str:
        """Return the digest of all lines."""
        if self._out is not None:
            self._out.close()
            self._out = None
        return self._hash.hexdigest()
