"""A real nats-server for tests, and three that hold every stream together."""

from types import TracebackType
from typing import Self

from offbook.ops.chaos.servers import NatsServer, binary, free_port

__all__ = ["NatsCluster", "NatsServer", "binary", "free_port"]


class NatsCluster:
    """Several servers that hold every stream together."""

    def __init__(self, size: int = 3) -> None:
        routes = [free_port() for _ in range(size)]
        addresses = ", ".join(f'"nats://127.0.0.1:{port}"' for port in routes)
        self.servers = [
            NatsServer(
                config=f"server_name: s{port}\n"
                f"cluster {{ name: c, listen: 127.0.0.1:{port}, routes: [{addresses}] }}"
            )
            for port in routes
        ]

    @property
    def urls(self) -> list[str]:
        return [server.url for server in self.servers]

    def __enter__(self) -> Self:
        for server in self.servers:
            server.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for server in self.servers:
            server.close()
