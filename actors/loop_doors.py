"""The doors of an event loop that stay shut in a workflow body."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from .loop import WorkflowLoop

_WORLD = [
    "run_in_executor", "set_default_executor", "getaddrinfo", "getnameinfo", "create_connection",
    "create_server", "start_tls", "sendfile", "create_unix_connection", "create_unix_server",
    "connect_accepted_socket", "create_datagram_endpoint", "connect_read_pipe",
    "connect_write_pipe", "subprocess_shell", "subprocess_exec", "add_reader", "remove_reader",
    "add_writer", "remove_writer", "sock_recv", "sock_recv_into", "sock_recvfrom",
    "sock_recvfrom_into", "sock_sendall", "sock_sendto", "sock_connect", "sock_accept",
    "sock_sendfile", "add_signal_handler", "remove_signal_handler", "call_soon_threadsafe",
]  # fmt: skip
_DRIVER = [
    "run_forever", "run_until_complete", "stop", "close", "set_debug", "set_task_factory",
    "set_exception_handler",
]  # fmt: skip


def _refusal(name: str, how: Callable[[Any, str], NoReturn]) -> Callable[..., NoReturn]:
    def refuse(
        self: Any,  # noqa: ANN401 - the loop, which is built on this
        *_: object,
        **__: object,
    ) -> NoReturn:
        how(self, name)

    return refuse


def shut(loop: "type[WorkflowLoop]") -> None:
    """Put refusals in the place of all methods that would reach the world or drive the loop."""
    for name in _WORLD:
        setattr(loop, name, _refusal(name, loop.refuse))
    for name in _DRIVER:
        setattr(loop, name, _refusal(name, loop.misuse))
