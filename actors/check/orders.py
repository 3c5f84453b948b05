"""Where the order of a set becomes visible."""

import ast
from collections.abc import Iterator

from .outline import Function, Scope, own_nodes

_DEPTH_MAX = 8
_MAKERS = frozenset({"builtins.set()", "builtins.frozenset()"})
_SET_NOTES = _MAKERS | {
    "typing.Set()",
    "typing.FrozenSet()",
    "typing.AbstractSet()",
    "collections.abc.Set()",
    "collections.abc.MutableSet()",
}
_OPERATIONS = frozenset({"union", "intersection", "difference", "symmetric_difference", "copy"})
_ORDERED = frozenset(
    {"builtins.list", "builtins.tuple", "builtins.enumerate", "builtins.iter", "builtins.zip"}
    | {"builtins.map", "builtins.filter", "builtins.dict.fromkeys", "itertools.chain"}
)
_BLIND = frozenset(
    f"builtins.{name}"
    for name in ("sorted", "set", "frozenset", "len", "sum", "min", "max", "any", "all")
)
# Tasks hash by their place in the history, integers by their value: both keep their order.
_STEADY = ("create_task", "ensure_future")
_STEADY_NOTES = frozenset({"int", "bool", "Task", "Future"})


def blind_lists(node: ast.AST, scope: Scope) -> Iterator[ast.AST]:
    """Yield the list comprehensions whose order `node` does not look at: `sorted([...])`."""
    if isinstance(node, ast.Call) and scope.resolve(node.func) in _BLIND:
        yield from (argument for argument in node.args if isinstance(argument, ast.ListComp))


def order_hits(node: ast.AST, scope: Scope, function: Function) -> Iterator[tuple[ast.AST, str]]:
    """Yield what a node takes out of a set in the set's own order."""
    for source in _taken(node, scope):
        if _is_set(source, scope, function):
            yield source, "the order of this set differs per process"


def _taken(node: ast.AST, scope: Scope) -> Iterator[ast.expr]:
    match node:
        case ast.For(iter=source) | ast.Starred(value=source) | ast.YieldFrom(value=source):
            yield source
        case ast.ListComp(generators=loops) | ast.DictComp(generators=loops):
            yield from (loop.iter for loop in loops)
        case ast.Call(func=ast.Attribute(value=source, attr="pop"), args=[]):
            yield source
        case ast.Call(func=ast.Attribute(value=ast.Constant(), attr="join"), args=[source]):
            yield from _through(source)
        case ast.Call(func=func, args=arguments):
            name = scope.resolve(func)
            if name in _ORDERED:
                yield from arguments
            if name not in _BLIND:
                yield from (s for a in arguments for s in _through(a) if s is not a)
        case _:
            pass


def _through(argument: ast.expr) -> list[ast.expr]:
    """Return what a generator expression loops over, or the argument itself."""
    inner = argument.value if isinstance(argument, ast.Starred) else argument
    if isinstance(inner, ast.GeneratorExp):
        return [loop.iter for loop in inner.generators]
    return [argument]


def _is_set(node: ast.expr, scope: Scope, function: Function, depth: int = 0) -> bool:  # noqa: PLR0911  (one for each kind of node)
    if depth > _DEPTH_MAX:
        return False
    match node:
        case ast.Set(elts=elements):
            return len(elements) > 1 and not all(_is_steady(e, scope) for e in elements)
        case ast.SetComp(elt=element):
            return not _is_steady(element, scope)
        case ast.BinOp(op=ast.BitOr() | ast.BitAnd() | ast.Sub() | ast.BitXor()):
            return any(
                _is_set(side, scope, function, depth + 1) or _is_keys(side)
                for side in (node.left, node.right)
            )
        case ast.Name(id=name):
            return _is_set_name(name, scope, function, depth + 1)
        case ast.Call(func=ast.Attribute(value=base, attr=attr)) if attr in _OPERATIONS:
            return _is_set(base, scope, function, depth + 1)
        case ast.Call(args=arguments) if scope.resolve(node) in _MAKERS:
            return bool(arguments) and not _is_steady(arguments[0], scope)
        case _:
            return False


def _is_set_name(name: str, scope: Scope, function: Function, depth: int) -> bool:
    home = scope.find(name)
    if home is None or name not in home.values:
        return False
    note = home.notes.get(name)
    if note is not None:
        return home.resolve_note(note) in _SET_NOTES and not _notes_steady(note)
    value = home.values[name]
    if isinstance(value, ast.Call) and not value.args and home.resolve(value) == "builtins.set()":
        added = [a for n in own_calls(function, name, "add") for a in n.args]
        return bool(added) and not all(_is_steady(a, scope) for a in added)
    return value is not None and _is_set(value, home, function, depth)


def own_calls(function: Function, name: str, method: str) -> Iterator[ast.Call]:
    """Yield the calls `name.method(...)` of a function."""
    for statement in function.body:
        for node in own_nodes(statement):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name(id=found), attr=attr)):
                    if found == name and attr == method:
                        yield node
                case _:
                    pass


def _is_keys(node: ast.expr) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in {"keys", "items"}
    )


def _is_steady(node: ast.expr, scope: Scope, depth: int = 0) -> bool:  # noqa: PLR0911  (one for each kind of node)
    match node:
        case ast.Constant(value=constant):
            return isinstance(constant, int)
        case ast.Call(func=ast.Attribute(attr=attr)) if attr in _STEADY:
            return True
        case ast.Call(func=ast.Name(id=name)) if name in {*_STEADY, "range", "len", "int"}:
            return True
        case ast.Name(id=name):
            home = scope.find(name)
            if home is None or depth > _DEPTH_MAX:
                return False
            if name in home.notes:
                return _notes_steady(home.notes[name])
            value = home.values.get(name)
            return value is not None and _is_steady(value, home, depth + 1)
        case ast.GeneratorExp(elt=element) | ast.ListComp(elt=element):
            return _is_steady(element, scope, depth + 1)
        case _:
            return False


def _notes_steady(note: ast.expr) -> bool:
    names = {n.id for n in ast.walk(note) if isinstance(n, ast.Name)}
    names |= {n.attr for n in ast.walk(note) if isinstance(n, ast.Attribute)}
    return bool(names & _STEADY_NOTES)
