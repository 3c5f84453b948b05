"""Ports that refuse what is asked of them."""

from typing import Any

from offbook.actors.errors import ServerRefused


class Refuses:
    """A port whose next call of one name is refused."""

    def __init__(self, port: Any, name: str) -> None:  # noqa: ANN401 - any port
        self._port = port
        self._name = name
        self.left = 1

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - what the port has
        return self._refuse if name == self._name and self.left else getattr(self._port, name)

    async def _refuse(self, *_args: object) -> None:
        self.left -= 1
        raise ServerRefused(self._name, "as the test wants it")
