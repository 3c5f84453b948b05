"""The rules for what runs in a workflow body: one function a rule, each asked about every node."""

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from .orders import order_hits
from .outline import Function, Outline, Scope, decorated_as, own_nodes, scope_of
from .tables import CLOCKS, READ_ATTRIBUTES, code_of_call, differs_per_process

_DEPTH_MAX = 8
_SLEEPS = frozenset({"offbook.sleep", "asyncio.sleep"})
_SWALLOWED = frozenset(
    {"builtins.BaseException", "asyncio.CancelledError", "asyncio.exceptions.CancelledError"}
)
_MUTATORS = frozenset(
    {"append", "extend", "insert", "remove", "clear", "sort", "reverse", "add", "discard"}
    | {"update", "setdefault", "popitem", "pop", "appendleft", "popleft", "extendleft"}
)
_MAKERS = frozenset(
    {f"builtins.{name}()" for name in ("list", "dict", "set", "bytearray")}
    | {f"collections.{name}()" for name in ("defaultdict", "deque", "Counter", "OrderedDict")}
)
Hit: TypeAlias = tuple[ast.AST, str, str]


@dataclass(slots=True, frozen=True)
class At:
    """Where a node stands: the module, the scope, and the function around it."""

    module: Outline
    scope: Scope
    function: Function
    blind: frozenset[int] = frozenset()


def body_nodes(function: Function, scope: Scope) -> Iterator[tuple[ast.AST, Scope]]:
    """Yield every node that runs with the function, with its scope; not the steps inside it."""
    for statement in function.body:
        yield from _nodes(statement, scope)


def _nodes(node: ast.AST, scope: Scope) -> Iterator[tuple[ast.AST, Scope]]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        if decorated_as(node, scope) is None:
            yield node, scope
            yield from body_nodes(node, scope_of(node, scope))
        return
    yield node, scope
    if isinstance(node, ast.Lambda):
        scope = scope_of(node, scope)
    for child in ast.iter_child_nodes(node):
        yield from _nodes(child, scope)


def hits(node: ast.AST, at: At) -> Iterator[Hit]:
    """Yield what every rule has to say about a node."""
    for rule in _RULES:
        yield from rule(node, at)


def _calls(node: ast.AST, at: At) -> Iterator[Hit]:
    if not isinstance(node, ast.Call):
        return
    name = at.scope.resolve(node.func)
    code = code_of_call(name) if name is not None else None
    if name is not None and code is not None:
        yield node, code, f"{shown(name)}()"
    elif isinstance(node.func, ast.Attribute) and node.func.attr == "run_in_executor":
        yield node, "OB104", "run_in_executor()"
    elif name in {"builtins.id", "builtins.hash"} and not _is_number(node):
        yield node, "OB202", f"{shown(name)}()"


def _is_number(call: ast.Call) -> bool:
    return all(isinstance(a, ast.Constant) and isinstance(a.value, int) for a in call.args)


def shown(name: str) -> str:
    """Return a resolved name as the user would write it."""
    return name.removeprefix("builtins.").replace("pathlib.Path()", "Path()")


def _reads(node: ast.AST, at: At) -> Iterator[Hit]:
    if isinstance(node, ast.Attribute) or (
        isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    ):
        name = at.scope.resolve(node)
        if name in READ_ATTRIBUTES and _written_here(node, at):
            yield node, READ_ATTRIBUTES[name], name


def _written_here(node: ast.AST, at: At) -> bool:
    # A variable that holds os.environ resolves to it as well: report it where it is read first.
    return isinstance(node, ast.Attribute) or node.id in _imports(at.scope)  # type: ignore[attr-defined]


def _imports(scope: Scope | None) -> set[str]:
    names: set[str] = set()
    while scope is not None:
        names.update(scope.imports)
        scope = scope.outer
    return names


def _unawaited(node: ast.AST, at: At) -> Iterator[Hit]:
    if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
        return
    name = at.scope.resolve(node.value.func)
    local = at.module.callee(name)
    function = at.module.functions.get(local) if local is not None else None
    step = local in at.module.steps or isinstance(function, ast.AsyncFunctionDef)
    if step or name in _SLEEPS:
        yield node, "OB301", f"{shown(name or '').lstrip('.')}() is not awaited"


def _naive_sleep(node: ast.AST, at: At) -> Iterator[Hit]:
    if isinstance(node, ast.Call) and at.scope.resolve(node.func) in _SLEEPS:
        for argument in (*node.args[:1], *(k.value for k in node.keywords)):
            if _is_naive(argument, at.scope):
                yield argument, "OB302", "sleep until a datetime without a time zone"


def _is_naive(node: ast.expr, scope: Scope, depth: int = 0) -> bool:
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, ast.Add | ast.Sub) and (
            _is_naive(node.left, scope, depth) != _is_naive(node.right, scope, depth)
        )
    if isinstance(node, ast.Name) and depth < _DEPTH_MAX:
        home = scope.find(node.id)
        value = home.values.get(node.id) if home is not None else None
        return value is not None and _is_naive(value, scope, depth + 1)
    return isinstance(node, ast.Call) and _makes_naive(node, scope)


def _makes_naive(call: ast.Call, scope: Scope) -> bool:
    zoned = any(k.arg in {"tzinfo", "tz", None} for k in call.keywords)
    name = scope.resolve(call.func)
    if name == "datetime.datetime":
        # year, month, day, hour, minute, second, microsecond, tzinfo
        return not zoned and len(call.args) <= 7  # noqa: PLR2004
    if name == "datetime.datetime.now":
        return not zoned and not call.args
    return name in {"datetime.datetime.utcnow", "datetime.datetime.today"}


def _swallowed(node: ast.AST, at: At) -> Iterator[Hit]:
    if isinstance(node, ast.Try | ast.TryStar):
        for handler in node.handlers:
            if _swallows(handler, at.scope) and not _waits_for_cancelled(node, at.function):
                yield handler, "OB303", "cancellation is caught and not raised again"
        for inner in node.finalbody:
            yield from (
                (n, "OB303", "return in finally ends a cancellation")
                for n in own_nodes(inner)
                if isinstance(n, ast.Return)
            )


def _suppressed(node: ast.AST, at: At) -> Iterator[Hit]:
    if isinstance(node, ast.Call) and at.scope.resolve(node.func) == "contextlib.suppress":
        kinds = {at.scope.resolve(argument) for argument in node.args}
        if kinds & _SWALLOWED:
            yield node, "OB303", "cancellation is suppressed"


def _swallows(handler: ast.ExceptHandler, scope: Scope) -> bool:
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    caught = handler.type is None or any(scope.resolve(kind) in _SWALLOWED for kind in kinds)
    raises = any(isinstance(n, ast.Raise) for s in handler.body for n in own_nodes(s))
    return caught and not raises


def _waits_for_cancelled(node: ast.Try | ast.TryStar, function: Function) -> bool:
    """Tell the idiom `task.cancel()`, then `try: await task`, from swallowing one's own end."""
    awaited = {
        ast.dump(n.value) for s in node.body for n in own_nodes(s) if isinstance(n, ast.Await)
    }
    cancelled = {
        ast.dump(n.func.value)
        for s in function.body
        for n in own_nodes(s)
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute) and n.func.attr == "cancel"
    }
    return bool(awaited) and awaited <= cancelled


def _endless(node: ast.AST, at: At) -> Iterator[Hit]:  # noqa: ARG001  (the shape of a rule)
    if not isinstance(node, ast.While) or node.orelse:
        return
    inside = [n for s in node.body for n in own_nodes(s)]
    waits = any(isinstance(n, ast.Await | ast.AsyncFor | ast.AsyncWith | ast.Yield) for n in inside)
    leaves = any(isinstance(n, ast.Break | ast.Return | ast.Raise) for n in inside)
    forever = isinstance(node.test, ast.Constant) and bool(node.test.value)
    idle = all(isinstance(s, ast.Pass) for s in node.body) and not _has(node.test, ast.Await)
    if (forever and not waits and not leaves) or idle:
        yield node, "OB304", "this loop never awaits"


def _has(root: ast.AST, kind: type[ast.AST]) -> bool:
    return any(isinstance(n, kind) for n in ast.walk(root))


def _globals(node: ast.AST, at: At) -> Iterator[Hit]:
    if isinstance(node, ast.Global):
        inner = [n for s in at.function.body for n in ast.walk(s) if isinstance(n, ast.Name)]
        stored = {n.id for n in inner if not isinstance(n.ctx, ast.Load)}
        for name in sorted(stored.intersection(node.names)):
            yield node, "OB401", f"global {name} is written"


def _shared(node: ast.AST, at: At) -> Iterator[Hit]:
    target: ast.expr | None = None
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        target = node.func.value if node.func.attr in _MUTATORS else None
    elif isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
        target = node.value
    if isinstance(target, ast.Name) and at.scope.find(target.id) is at.module.scope:
        value = at.module.scope.values.get(target.id)
        if value is not None and _is_mutable(value, at.module.scope):
            yield node, "OB402", f"{target.id} of the module is changed"


def _is_mutable(value: ast.expr, scope: Scope) -> bool:
    literals = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
    return isinstance(value, literals) or scope.resolve(value) in _MAKERS


def _constants(node: ast.AST, at: At) -> Iterator[Hit]:
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
        home = at.scope.find(node.id)
        value = home.values.get(node.id) if home is not None and home.outer is None else None
        for inner in ast.walk(value) if value is not None else ():
            if _differs(inner, at.module.scope):
                yield node, "OB403", f"{node.id} was read when the module was imported"
                return


def _differs(node: ast.AST, scope: Scope) -> bool:
    if isinstance(node, ast.Call):
        name = scope.resolve(node.func)
        return name is not None and differs_per_process(name)
    return scope.resolve(node) == "os.environ"


def default_hits(function: Function, scope: Scope) -> Iterator[Hit]:
    """Yield the defaults of parameters that were read once, at import."""
    for default in (*function.args.defaults, *function.args.kw_defaults):
        for node in ast.walk(default) if default is not None else ():
            if isinstance(node, ast.Call) and scope.resolve(node.func) in CLOCKS:
                yield node, "OB203", "a default argument is read once, at import"


def _orders(node: ast.AST, at: At) -> Iterator[Hit]:
    if id(node) in at.blind:
        return
    for place, message in order_hits(node, at.scope, at.function):
        yield place, "OB201", message


_RULES: tuple[Callable[[ast.AST, At], Iterator[Hit]], ...] = (
    _calls,
    _reads,
    _unawaited,
    _naive_sleep,
    _swallowed,
    _suppressed,
    _endless,
    _globals,
    _shared,
    _constants,
    _orders,
)
