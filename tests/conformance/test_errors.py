"""Errors and retries."""

# ruff: noqa: ANN401 - steps that take any value

from datetime import timedelta
from typing import Any

import pytest

from offbook import (
    FatalError,
    InvalidArguments,
    NotSerializable,
    Retry,
    RetryableError,
    Run,
    RunFailed,
    RunNotFound,
    Step,
    StepNotRegistered,
    StepView,
    Workflow,
    WorkflowNotRegistered,
    current_step,
    step,
    workflow,
)
from offbook.actors.options import StepOptions
from support.raising import SeamTorn, tear, tear_for_good
from support.worlds import CatalogueEnvironment

QUICK = Retry(attempts=3, first=0.01)
DETAILS = {"code": 402, "fields": ["card", "cvc"], "nested": {"retry": False, "none": None}}


async def failure_of(run: Run[Any]) -> RunFailed:
    """Wait for a run to fail; the error that its caller gets."""
    with pytest.raises(RunFailed) as caught:
        await run.result()
    assert await run.status() == "failed"
    assert caught.value.run == run.id
    return caught.value


async def only_step(run: Run[Any]) -> StepView:
    """Return the one step of a run."""
    (found,) = (await run.view()).steps
    return found


def traceback_of(error: BaseException | None) -> str:
    """Return what is known of an exception's frames in the process that raised it."""
    return str(getattr(error, "remote_traceback", ""))


class CurtainStuck(Exception):
    pass


def _lift() -> None:
    _pull_rope()


def _pull_rope() -> None:
    raise CurtainStuck("the rope has gone slack")


@workflow
async def lift_curtain() -> None:
    _lift()


async def test_nested_workflow_error(env: CatalogueEnvironment) -> None:
    failed = await failure_of(await env.client.start(lift_curtain))
    assert isinstance(failed.cause, CurtainStuck)
    assert str(failed.cause) == "the rope has gone slack"
    assert failed.error_code == "user-error"
    for frame in ("lift_curtain", "_lift", "_pull_rope"):
        assert frame in traceback_of(failed.cause)


@workflow
async def tear_in_workflow() -> None:
    tear("left")


async def test_imported_workflow_error(env: CatalogueEnvironment) -> None:
    failed = await failure_of(await env.client.start(tear_in_workflow))
    assert isinstance(failed.cause, SeamTorn)
    assert (failed.cause.seam, failed.cause.depth) == ("left", 3)
    assert failed.error_code == "user-error"
    for frame in ("tear_in_workflow", "tear", "_rip", "raising.py"):
        assert frame in traceback_of(failed.cause)


@step(retry=0)
async def pull_rope() -> None:
    _pull_rope()


@workflow
async def catch_step_error() -> list[str]:
    try:
        await pull_rope()
    except CurtainStuck as error:
        return [str(error), traceback_of(error)]
    return []


async def test_step_error_caught(env: CatalogueEnvironment) -> None:
    run = await env.client.start(catch_step_error)
    message, frames = await run.result()
    assert message == "the rope has gone slack"
    assert "in pull_rope" in frames
    assert await run.status() == "completed"
    assert (await only_step(run)).status == "failed"


@step(retry=0)
async def tear_in_step() -> None:
    tear("right")


@workflow
async def catch_imported_step_error() -> list[Any]:
    try:
        await tear_in_step()
    except SeamTorn as error:
        return [str(error), error.seam, error.depth, traceback_of(error)]
    return []


async def test_imported_step_error_caught(env: CatalogueEnvironment) -> None:
    run = await env.client.start(catch_imported_step_error)
    *facts, frames = await run.result()
    assert facts == ["seam right is torn 3 deep", "right", 3]
    assert "in tear_in_step" in frames
    assert "in _rip" in frames
    assert (await only_step(run)).status == "failed"


@step(retry=QUICK)
async def third_time_lucky() -> int:
    attempt = current_step().attempt
    if attempt < 3:
        raise ValueError(f"attempt {attempt}")
    return attempt


@workflow
async def be_lucky() -> int:
    return await third_time_lucky()


async def test_plain_exception_retries_until_success(env: CatalogueEnvironment) -> None:
    run = await env.client.start(be_lucky)
    assert await run.result() == 3
    found = await only_step(run)
    assert (found.status, found.attempt) == ("completed", 3)
    assert [a["outcome"] for a in found.attempts] == ["failed", "failed", "completed"]
    assert [str(a["error"]) for a in found.attempts[:2]] == ["attempt 1", "attempt 2"]


@step
async def give_up() -> None:
    raise FatalError("beyond repair")


@workflow
async def fatal_in_step() -> None:
    await give_up()


async def test_fatal_is_not_retried(env: CatalogueEnvironment) -> None:
    run = await env.client.start(fatal_in_step)
    failed = await failure_of(run)
    assert isinstance(failed.cause, FatalError)
    assert failed.error_code == "user-error"
    found = await only_step(run)
    assert (found.status, found.attempt) == ("failed", 1)
    assert len(found.attempts) == 1


@step
async def come_back_later(seconds: float) -> int:
    attempt = current_step().attempt
    if attempt == 1:
        raise RetryableError("not yet", after=timedelta(seconds=seconds))
    return attempt


@workflow
async def wait_for_it(seconds: float) -> int:
    return await come_back_later(seconds)


async def test_retry_after_is_honoured(env: CatalogueEnvironment) -> None:
    run = await env.client.start(wait_for_it, env.seconds(10))
    assert await run.result() == 2
    first, second = (await only_step(run)).attempts
    assert second["started_at"] - first["started_at"] >= timedelta(seconds=env.seconds(10))


@step(retry=0)
async def one_chance() -> None:
    raise ValueError("missed")


@workflow
async def take_the_chance() -> None:
    await one_chance()


async def test_zero_retries_means_one_attempt(env: CatalogueEnvironment) -> None:
    run = await env.client.start(take_the_chance)
    assert isinstance((await failure_of(run)).cause, ValueError)
    found = await only_step(run)
    assert (found.status, found.attempt) == ("failed", 1)
    assert "step_retrying" not in await env.kinds(run)


@step
async def tear_for_good_in_step() -> None:
    tear_for_good("middle")


@workflow
async def catch_fatal() -> str:
    try:
        await tear_for_good_in_step()
    except FatalError as error:
        return str(error)
    return "unhurt"


async def test_fatal_is_catchable(env: CatalogueEnvironment) -> None:
    run = await env.client.start(catch_fatal)
    assert await run.result() == "seam middle is beyond repair"
    assert await run.status() == "completed"


class WrongCue(FatalError):
    pass


@step
async def miss_the_cue() -> None:
    try:
        int([])  # type: ignore[call-overload] # pyright: ignore[reportArgumentType] - it must raise
    except TypeError as error:
        raise WrongCue("page 12") from error


@workflow
async def look_at_the_cause() -> list[Any]:
    try:
        await miss_the_cue()
    except FatalError as error:
        cause = error.__cause__
        return [type(error) is WrongCue, str(error), type(cause) is TypeError, str(cause)]
    return []


async def test_step_fatal_keeps_class_and_cause(env: CatalogueEnvironment) -> None:
    run = await env.client.start(look_at_the_cause)
    is_own, message, is_type_error, cause = await run.result()
    assert (is_own, message, is_type_error) == (True, "page 12", True)
    assert "int()" in cause
    assert (await only_step(run)).attempt == 1


@workflow
async def fatal_in_workflow() -> None:
    try:
        DETAILS["prompt book"]
    except KeyError as error:
        raise WrongCue("nobody on stage") from error


async def test_workflow_fatal_reaches_caller(env: CatalogueEnvironment) -> None:
    run = await env.client.start(fatal_in_workflow)
    failed = await failure_of(run)
    assert failed.error_code == "user-error"
    assert isinstance(failed.cause, WrongCue)
    assert failed.__cause__ is failed.cause
    assert isinstance(failed.cause.__cause__, KeyError)
    assert failed.cause.__cause__.args == ("prompt book",)


class Refused(Exception):
    def __init__(self, details: dict[str, Any]) -> None:
        super().__init__(f"refused with {len(details)} details")
        self.details = details


@workflow
async def refuse_in_workflow() -> None:
    raise Refused(DETAILS)


async def test_structured_workflow_exception(env: CatalogueEnvironment) -> None:
    failed = await failure_of(await env.client.start(refuse_in_workflow))
    assert isinstance(failed.cause, Refused)
    assert failed.cause.details == DETAILS
    assert str(failed.cause) == "refused with 3 details"


@step(retry=QUICK)
async def refuse_in_step() -> None:
    raise Refused({**DETAILS, "attempt": current_step().attempt})


@workflow
async def refused_by_step() -> None:
    await refuse_in_step()


async def test_structured_step_exception(env: CatalogueEnvironment) -> None:
    run = await env.client.start(refused_by_step)
    failed = await failure_of(run)
    assert isinstance(failed.cause, Refused)
    assert failed.cause.details == {**DETAILS, "attempt": 3}
    assert (await only_step(run)).attempt == 3


def _collected() -> list[BaseException]:
    group = ExceptionGroup("several", [ValueError("v", 1), OSError(2, "gone", "a.txt")])
    group.add_note("seen twice")
    late = RetryableError("busy", after=timedelta(seconds=7))
    wrong = WrongCue("fatal")
    wrong.__cause__ = ZeroDivisionError("by zero")
    return [KeyError("k"), group, late, wrong, Refused(DETAILS)]


def check_collected(errors: list[Any]) -> list[Any]:
    """Return the same errors, once they are proved to be what `_collected` makes."""
    key, group, late, wrong, refused = errors
    assert type(key) is KeyError
    assert key.args == ("k",)
    assert type(group) is ExceptionGroup
    bad_value, gone = group.exceptions
    assert type(bad_value) is ValueError
    assert bad_value.args == ("v", 1)
    assert isinstance(gone, FileNotFoundError)
    assert gone.filename == "a.txt"
    assert group.__notes__ == ["seen twice"]
    assert isinstance(late, RetryableError)
    assert late.after == timedelta(seconds=7)
    assert isinstance(wrong, FatalError)
    assert isinstance(wrong.__cause__, ZeroDivisionError)
    assert isinstance(refused, Refused)
    assert refused.details == DETAILS
    return errors


@step(retry=0)
async def check_in_step(errors: list[BaseException]) -> list[BaseException]:
    return check_collected(errors)


@workflow
async def carry_errors(errors: list[BaseException]) -> list[BaseException]:
    return check_collected(await check_in_step(check_collected(errors)))


async def test_exception_classes_survive_all_boundaries(env: CatalogueEnvironment) -> None:
    run = await env.client.start(carry_errors, _collected())
    assert len(check_collected(await run.result())) == 5


class Unstorable:
    def __reduce__(self) -> str:
        raise TypeError("no")


@step
async def take(value: Any) -> Any:
    return value


@workflow
async def bad_argument(*, caught: bool) -> str:
    try:
        await take({"props": [1, Unstorable()]})
    except NotSerializable as error:
        if not caught:
            raise
        return error.path
    return "stored"


async def test_bad_step_argument_caught(env: CatalogueEnvironment) -> None:
    run = await env.client.start(bad_argument, caught=True)
    assert await run.result() == "value.props[1]"
    assert await run.status() == "completed"
    assert (await run.view()).steps == ()


async def test_bad_step_argument_uncaught(env: CatalogueEnvironment) -> None:
    run = await env.client.start(bad_argument, caught=False)
    failed = await failure_of(run)
    assert isinstance(failed.cause, NotSerializable)
    assert failed.error_code == "user-error"
    assert (await run.view()).records == 1


@step
async def return_badly() -> Any:
    return [{"hidden": Unstorable()}]


@workflow
async def bad_result(*, caught: bool) -> str:
    try:
        await return_badly()
    except NotSerializable as error:
        if not caught:
            raise
        return error.path
    return "stored"


async def test_bad_step_result_caught(env: CatalogueEnvironment) -> None:
    run = await env.client.start(bad_result, caught=True)
    assert await run.result() == "result[0].hidden"
    found = await only_step(run)
    assert (found.status, found.attempt) == ("failed", 1)


async def test_bad_step_result_uncaught(env: CatalogueEnvironment) -> None:
    run = await env.client.start(bad_result, caught=False)
    failed = await failure_of(run)
    assert isinstance(failed.cause, NotSerializable)
    assert failed.error_code == "user-error"
    assert (await only_step(run)).attempt == 1


@workflow
async def pass_on(value: Any) -> Any:
    return value


async def test_bad_start_argument_raises_at_caller(env: CatalogueEnvironment) -> None:
    with pytest.raises(NotSerializable) as caught:
        await env.client.start(pass_on, [Unstorable()], id="never")
    assert caught.value.path == "value[0]"
    with pytest.raises(InvalidArguments):
        await env.client.start(pass_on, 1, 2, id="never")
    assert not await env.client.run("never").exists()
    with pytest.raises(RunNotFound):
        await env.client.run("never").status()


@workflow
async def return_unstorable() -> Any:
    try:
        return {"never": Unstorable()}
    except NotSerializable:
        return "caught"


async def test_bad_workflow_result_fails_run(env: CatalogueEnvironment) -> None:
    failed = await failure_of(await env.client.start(return_unstorable))
    assert isinstance(failed.cause, NotSerializable)
    assert failed.cause.path == "result.never"
    assert failed.error_code == "user-error"


async def _nobody_knows_me() -> str:
    return "known"


async def test_unknown_workflow_fails_run(env: CatalogueEnvironment) -> None:
    """A start is refused where the deployment lacks it, else the run waits for a worker."""
    ghost: Workflow[..., str] = Workflow(_nobody_knows_me, "ghost")
    with pytest.raises(WorkflowNotRegistered, match="not registered") as caught:
        await env.client.start(ghost, id="ghost")
    assert caught.value.code == "workflow-not-registered"
    assert not await env.client.run("ghost").exists()
    early = await env.client.start(ghost, id="early", deployment="next")
    assert await early.status() == "pending"
    await env.add_worker(deployment="next", workflows=[ghost])
    assert await early.result() == "known"


GHOST_STEP: Step[..., str] = Step(_nobody_knows_me, "ghost_step", StepOptions())


@workflow
async def call_ghost_step(*, caught: bool) -> str:
    try:
        return await GHOST_STEP()
    except StepNotRegistered as error:
        if not caught:
            raise
        return str(error)


async def test_unknown_step_caught(env: CatalogueEnvironment) -> None:
    run = await env.client.start(call_ghost_step, caught=True)
    assert "'ghost_step' is not registered" in await run.result()
    found = await only_step(run)
    assert (found.status, found.attempt) == ("failed", 1)


async def test_unknown_step_uncaught(env: CatalogueEnvironment) -> None:
    run = await env.client.start(call_ghost_step, caught=False)
    failed = await failure_of(run)
    assert isinstance(failed.cause, StepNotRegistered)
    assert "not registered" in str(failed)
