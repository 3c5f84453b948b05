"""Mail whose seal nobody has opened yet: opened before the turn that it is to be part of."""

from collections.abc import Callable
from dataclasses import replace

from .errors import CipherError, KeyMismatch, KeyMissing
from .frames import key_in
from .ports import Delivery
from .turn import Message, order_to_terminate, read_message

Refuse = Callable[[Delivery, str], None]
"""Told of mail that does not count, and why."""


async def unsealed(batch: list[Message], refuse: Refuse) -> list[Message]:
    """Return a batch with all seals opened, without what was tampered with.

    Where somebody asks for the end of the run, what cannot be opened is passed over: nobody
    needs it any more.

    Raises:
        KeyMissing, KeyMismatch: one cannot be opened here now.
    """
    if not any(message.sealed for message in batch):
        return batch
    ending = order_to_terminate(batch) is not None
    found: list[Message] = []
    for message in batch:
        if not message.sealed or message.delivery is None:
            found.append(message)
            continue
        try:
            found.append(await _opened(message.delivery))
        except ValueError as error:
            refuse(message.delivery, str(error))
        except CipherError:
            if not ending:
                raise
            found.append(replace(message, kind="sealed"))
    return found


async def _opened(delivery: Delivery) -> Message:
    """Return mail with its data opened; an order to terminate counts without its reason.

    Raises:
        KeyMissing, KeyMismatch: nobody here can open it now.
        ValueError: it was changed, cut or moved, or the bytes in it are not offbook's.
    """
    try:
        data = await _data(delivery)
    except (KeyMissing, KeyMismatch):
        if delivery.kind != "terminate":
            raise
        return Message(delivery.kind, {"reason": None}, delivery)
    return read_message(replace(delivery, data=data, unseal=None))


async def _data(delivery: Delivery) -> bytes:
    if delivery.unseal is None:
        raise KeyMissing(key_in(delivery.data))
    return await delivery.unseal()
