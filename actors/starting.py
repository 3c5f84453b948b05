"""Starting runs for a client: known workflows, ids that are taken, payloads that come along."""

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from .accepting import Sent
from .context import step_context
from .errors import HookNotFound, RunConflict, RunExpired, RunTerminated, WorkflowNotRegistered
from .manifest import read_manifest
from .model import Head, Parent
from .reading import Reading
from .start import Doors, StartOptions, launch, make_head
from .state import FINAL, state_of
from .turn import early_key, payload_key

if TYPE_CHECKING:
    from .client import Client


class Starting:
    """Starts runs as their options say."""

    def __init__(self, client: "Client", log: Reading) -> None:
        self._client = client
        self._log = log
        self._known: set[tuple[str, str]] = set()

    async def start(self, workflow: str, payload: bytes, options: StartOptions) -> str:
        """Start a run, or attach to one, and return its id. Raises as `Client.start`."""
        self._note_caller(options)
        await self._check_known(workflow, options.deployment)
        return await self._start(workflow, payload, options)

    def _note_caller(self, options: StartOptions) -> None:
        """Remember which step starts the run, where that is one of the same namespace."""
        context = step_context.get()
        client: Client | None = None if context is None else context.services.client
        if context is None or client is None:
            return
        if client.is_open and client.backend.namespace == self._client.backend.namespace:
            run = context.run
            options.parent = Parent.by_step(run.deployment, run.id, context.id)
            options.root = run.root or run.id

    async def _check_known(self, workflow: str, deployment: str) -> None:
        if (workflow, deployment) in self._known:
            return
        manifest = await self._log.again(
            lambda: read_manifest(self._client.backend, deployment), "starting"
        )
        if manifest is not None and workflow not in manifest["workflows"]:
            raise WorkflowNotRegistered(workflow, deployment)
        if manifest is not None:
            self._known.add((workflow, deployment))

    async def _start(self, workflow: str, payload: bytes, options: StartOptions) -> str:
        if options.on_conflict == "supersede":
            return await self._supersede(workflow, payload, options)
        doors = Doors(self._client.backend, self._client.observer, self._client.blobs)
        head = await make_head(doors, workflow, payload, options)
        new = await launch(doors, head, options.on_conflict)
        if not new:
            for early in options.early:
                await self._resume_early(options.run, early)
        return options.run

    async def _resume_early(self, run: str, early: dict[str, Any]) -> None:
        """Send a payload to a run that existed before.

        Raises:
            HookNotFound: the run is over, and has not had the payload.
        """
        head, token, caller = await self._log.head(run), early["token"], early["caller"]
        record = await self._client.token_record(token)
        if record is not None and record.run == run and not record.spent:
            sent = Sent(run, record.hook, token, caller)
            if await self._client.deliver(record, sent, early["payload"]):
                return
        if not await self._is_over(run):
            kept = await self._client.blobs.offload(run, early["payload"])
            fields = {**early, "payload": kept, "early": True}
            await self._client.send(head.deployment, run, "hook", fields)
        if await self._is_over(run) and not await self._had(run, head, token, caller):
            raise HookNotFound

    async def _is_over(self, run: str) -> bool:
        status = await self._client.status_of(run)
        return status in FINAL and status != "continued"

    async def _had(self, run: str, head: Head, token: str, caller: str) -> bool:
        if any((e["token"], e["caller"]) == (token, caller) for e in head.early):
            return True
        with suppress(RunExpired, RunTerminated):
            seen = state_of(await self._log.history(run)).seen
            return bool({payload_key(token, caller), early_key(token, caller)} & seen)
        return False

    async def _supersede(self, workflow: str, payload: bytes, options: StartOptions) -> str:
        base, number = options.run, 0
        options.on_conflict = "raise"
        while True:
            try:
                return await self._start(workflow, payload, options)
            except RunConflict:
                if not await self._is_newest(base, number):
                    number += 1
                    options.run = f"{base[:118]}-s{number}"
                    continue
            await self._client.cancel_run(options.run, "superseded")
            with suppress(RunExpired, RunTerminated):
                await self._log.last_end(options.run)
            number += 1
            options.run = f"{base[:118]}-s{number}"

    async def _is_newest(self, base: str, number: int) -> bool:
        return not await self._client.exists(f"{base[:118]}-s{number + 1}")
