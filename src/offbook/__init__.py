"""Python functions that survive: durable workflows and steps on NATS JetStream.

Everything that a user needs is here; each name loads its module when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from offbook._connect import connect as connect
    from offbook.actors.api import Hook as Hook
    from offbook.actors.api import Webhook as Webhook
    from offbook.actors.api import continue_as_new as continue_as_new
    from offbook.actors.api import current_run as current_run
    from offbook.actors.api import hook as hook
    from offbook.actors.api import set_attributes as set_attributes
    from offbook.actors.api import sleep as sleep
    from offbook.actors.api import start as start
    from offbook.actors.api import stream as stream
    from offbook.actors.api import topic as topic
    from offbook.actors.api import webhook as webhook
    from offbook.actors.client import Client as Client
    from offbook.actors.codec import register as register
    from offbook.actors.context import RunInfo as RunInfo
    from offbook.actors.context import StepContext as StepContext
    from offbook.actors.context import current_step as current_step
    from offbook.actors.define import Bound as Bound
    from offbook.actors.define import Step as Step
    from offbook.actors.define import Workflow as Workflow
    from offbook.actors.define import step as step
    from offbook.actors.define import workflow as workflow
    from offbook.actors.errors import ChildConflict as ChildConflict
    from offbook.actors.errors import CipherError as CipherError
    from offbook.actors.errors import ClientClosed as ClientClosed
    from offbook.actors.errors import ClientElsewhere as ClientElsewhere
    from offbook.actors.errors import ConfigurationError as ConfigurationError
    from offbook.actors.errors import DuplicateName as DuplicateName
    from offbook.actors.errors import EmbeddedServerFailed as EmbeddedServerFailed
    from offbook.actors.errors import FatalError as FatalError
    from offbook.actors.errors import HistoryCorrupted as HistoryCorrupted
    from offbook.actors.errors import HistoryLost as HistoryLost
    from offbook.actors.errors import HookConflict as HookConflict
    from offbook.actors.errors import HookDisposed as HookDisposed
    from offbook.actors.errors import HookNotFound as HookNotFound
    from offbook.actors.errors import HookRejected as HookRejected
    from offbook.actors.errors import InvalidArguments as InvalidArguments
    from offbook.actors.errors import InvalidAttributes as InvalidAttributes
    from offbook.actors.errors import InvalidName as InvalidName
    from offbook.actors.errors import InvalidOption as InvalidOption
    from offbook.actors.errors import KeyMismatch as KeyMismatch
    from offbook.actors.errors import KeyMissing as KeyMissing
    from offbook.actors.errors import MissingDependency as MissingDependency
    from offbook.actors.errors import NamespaceMismatch as NamespaceMismatch
    from offbook.actors.errors import NamespaceSealed as NamespaceSealed
    from offbook.actors.errors import NonDeterminismError as NonDeterminismError
    from offbook.actors.errors import NotInRun as NotInRun
    from offbook.actors.errors import NotInWorkflowBody as NotInWorkflowBody
    from offbook.actors.errors import NotSerializable as NotSerializable
    from offbook.actors.errors import OffbookError as OffbookError
    from offbook.actors.errors import PayloadError as PayloadError
    from offbook.actors.errors import PayloadMismatch as PayloadMismatch
    from offbook.actors.errors import PayloadTooLarge as PayloadTooLarge
    from offbook.actors.errors import PermissionMissing as PermissionMissing
    from offbook.actors.errors import RetryableError as RetryableError
    from offbook.actors.errors import RunBlocked as RunBlocked
    from offbook.actors.errors import RunCancelled as RunCancelled
    from offbook.actors.errors import RunConflict as RunConflict
    from offbook.actors.errors import RunError as RunError
    from offbook.actors.errors import RunExpired as RunExpired
    from offbook.actors.errors import RunFailed as RunFailed
    from offbook.actors.errors import RunNotEnded as RunNotEnded
    from offbook.actors.errors import RunNotFound as RunNotFound
    from offbook.actors.errors import RunTerminated as RunTerminated
    from offbook.actors.errors import SealBroken as SealBroken
    from offbook.actors.errors import SealMissing as SealMissing
    from offbook.actors.errors import ServerFolderUnusable as ServerFolderUnusable
    from offbook.actors.errors import ServerMissing as ServerMissing
    from offbook.actors.errors import ServerRefused as ServerRefused
    from offbook.actors.errors import ServerTooOld as ServerTooOld
    from offbook.actors.errors import ServerUnavailable as ServerUnavailable
    from offbook.actors.errors import ServerUnfit as ServerUnfit
    from offbook.actors.errors import ServerUnsupported as ServerUnsupported
    from offbook.actors.errors import SideEffectInWorkflow as SideEffectInWorkflow
    from offbook.actors.errors import StepFailed as StepFailed
    from offbook.actors.errors import StepLost as StepLost
    from offbook.actors.errors import StepNotRegistered as StepNotRegistered
    from offbook.actors.errors import StepTimeout as StepTimeout
    from offbook.actors.errors import StreamClosed as StreamClosed
    from offbook.actors.errors import StreamFailed as StreamFailed
    from offbook.actors.errors import TopicGroupMismatch as TopicGroupMismatch
    from offbook.actors.errors import TopicGroupMissing as TopicGroupMissing
    from offbook.actors.errors import WorkflowNotRegistered as WorkflowNotRegistered
    from offbook.actors.errors import WorkflowStuck as WorkflowStuck
    from offbook.actors.options import Retry as Retry
    from offbook.actors.options import Settings as Settings
    from offbook.actors.requests import Request as Request
    from offbook.actors.requests import Response as Response
    from offbook.actors.run import Run as Run
    from offbook.actors.run import RunEvent as RunEvent
    from offbook.actors.run import RunView as RunView
    from offbook.actors.run import StepView as StepView
    from offbook.actors.scope import CancelScope as CancelScope
    from offbook.actors.spans import Span as Span
    from offbook.actors.spans import span as span
    from offbook.actors.stream import Chunk as Chunk
    from offbook.actors.stream import Page as Page
    from offbook.actors.stream import Reset as Reset
    from offbook.actors.stream import Stream as Stream
    from offbook.actors.summary import Summary as Summary
    from offbook.actors.tokens import HookInfo as HookInfo
    from offbook.actors.worker import Worker as Worker
    from offbook.adapters.nats.options import ConnectOptions as ConnectOptions

_WHERE = {
    "_connect": "connect",
    "actors.api": (
        "Hook Webhook continue_as_new current_run hook set_attributes sleep start stream topic "
        "webhook"
    ),
    "actors.client": "Client",
    "actors.codec": "register",
    "actors.context": "RunInfo StepContext current_step",
    "actors.define": "Bound Step Workflow step workflow",
    "actors.errors": (
        "ChildConflict CipherError ClientClosed ClientElsewhere ConfigurationError DuplicateName "
        "EmbeddedServerFailed FatalError HistoryCorrupted HistoryLost HookConflict HookDisposed "
        "HookNotFound HookRejected InvalidArguments InvalidAttributes InvalidName InvalidOption "
        "KeyMismatch KeyMissing MissingDependency NamespaceMismatch NamespaceSealed "
        "NonDeterminismError NotInRun NotInWorkflowBody NotSerializable OffbookError PayloadError "
        "PayloadMismatch PayloadTooLarge PermissionMissing RetryableError RunBlocked RunCancelled "
        "RunConflict RunError RunExpired RunFailed RunNotEnded RunNotFound RunTerminated "
        "SealBroken SealMissing ServerFolderUnusable ServerMissing ServerRefused ServerTooOld "
        "ServerUnavailable ServerUnfit ServerUnsupported SideEffectInWorkflow StepFailed StepLost "
        "StepNotRegistered StepTimeout StreamClosed StreamFailed TopicGroupMismatch "
        "TopicGroupMissing WorkflowNotRegistered WorkflowStuck"
    ),
    "actors.options": "Retry Settings",
    "actors.requests": "Request Response",
    "actors.run": "Run RunEvent RunView StepView",
    "actors.scope": "CancelScope",
    "actors.spans": "Span span",
    "actors.stream": "Chunk Page Reset Stream",
    "actors.summary": "Summary",
    "actors.tokens": "HookInfo",
    "actors.worker": "Worker",
    "adapters.nats.options": "ConnectOptions",
}
_MODULE_OF = {name: module for module, names in _WHERE.items() for name in names.split()}

__all__ = sorted(_MODULE_OF)  # noqa: PLE0605 # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the face shows
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"offbook.{_MODULE_OF[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return [*globals(), *__all__]
