"""Values that stand for something else when they cross: steps, workflows, runs, scopes."""

from typing import Any

from .codec import extend
from .context import reading_client, step_context
from .define import Step, Workflow, registry
from .errors import StepNotRegistered, WorkflowNotRegistered
from .ports import Channel
from .run import Run
from .scope import CancelScope, Reference
from .stream import Stream


def _step(name: Any) -> Step[..., Any]:  # noqa: ANN401 - stored data
    found = registry.steps.get(str(name))
    if found is None:
        raise StepNotRegistered(str(name))
    return found


def _workflow(name: Any) -> Workflow[..., Any]:  # noqa: ANN401 - stored data
    found = registry.workflows.get(str(name))
    if found is None:
        raise WorkflowNotRegistered(str(name), "this process")
    return found


def _run_plain(run: Run[Any]) -> list[str | None]:
    return [run.id, run.workflow.name if run.workflow is not None else None]


def _run(plain: Any) -> Run[Any]:  # noqa: ANN401 - stored data
    run_id, name = plain
    workflow = None if name is None else registry.workflows.get(name)
    return Run(reading_client.get(), run_id, workflow)


def _stream_plain(stream: Stream[Any]) -> list[str]:
    return [stream.channel.run, stream.channel.name, stream.author]


def _stream(plain: Any) -> Stream[Any]:  # noqa: ANN401 - stored data
    run, name, author = plain
    return Stream(Channel(name, run), client=reading_client.get(), author=author)


def _scope(plain: Reference) -> CancelScope:
    scope = CancelScope.from_reference(plain)
    context = step_context.get()
    if context is not None:
        scope.bind(context.services)
        if not scope.cancelled:
            context.services.watch_scope(plain["run"], plain["id"], scope.apply)
    return scope


def register_references() -> None:
    """Teach the codec the references; repeating it changes nothing."""
    extend("step", Step, lambda step: step.name, _step)
    extend("workflow", Workflow, lambda workflow: workflow.name, _workflow)
    extend("run", Run, _run_plain, _run)
    extend("stream", Stream, _stream_plain, _stream)
    extend("scope", CancelScope, CancelScope.reference, _scope)
