"""The rules for a module as a whole: names, annotations, clocks captured in classes."""

import ast
from collections.abc import Iterator

from .bodies import Hit
from .outline import Function, Outline, kind_of
from .tables import CLOCKS

_FACTORIES = frozenset({"default_factory", "factory", "default"})


def module_hits(module: Outline) -> Iterator[Hit]:
    """Yield what is wrong outside of the bodies, in a module that has workflows or steps."""
    if module.workflows or module.steps:
        yield from _twice(module)
        yield from _unannotated(module)
        yield from _lambdas(module)
    if module.workflows:
        yield from _captured(module)


def _captured(module: Outline) -> Iterator[Hit]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.keyword) and node.arg in _FACTORIES:
            name = module.scope.resolve(node.value)
            if name in CLOCKS and isinstance(node.value, ast.Name | ast.Attribute):
                yield node.value, "OB203", f"{node.arg}={name.removeprefix('datetime.')}"


def _twice(module: Outline) -> Iterator[Hit]:
    seen: dict[tuple[str, str], int] = {}
    for kind, name, node in _named(module.tree, "", module):
        first = seen.setdefault((kind, name), node.lineno)
        if first != node.lineno:
            yield node, "OB502", f"the {kind} {name!r} is defined in line {first} already"


def _named(root: ast.AST, home: str, module: Outline) -> Iterator[tuple[str, str, Function]]:
    for node in ast.iter_child_nodes(root):
        if isinstance(node, ast.ClassDef):
            yield from _named(node, f"{home}{node.name}.", module)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _name_of(node, home, module)
        elif not isinstance(node, ast.If | ast.Try):
            # The branches of `if` and `try` define one or the other.
            yield from _named(node, home, module)


def _name_of(node: Function, home: str, module: Outline) -> Iterator[tuple[str, str, Function]]:
    for decorator in node.decorator_list:
        kind = kind_of(decorator, module.scope)
        if kind is not None:
            yield kind, _given_name(decorator) or f"{home}{node.name}", node
            return


def _given_name(decorator: ast.expr) -> str | None:
    for keyword in decorator.keywords if isinstance(decorator, ast.Call) else ():
        if keyword.arg == "name" and isinstance(keyword.value, ast.Constant):
            return str(keyword.value.value)
    return None


def _unannotated(module: Outline) -> Iterator[Hit]:
    for name, function in {**module.workflows, **module.steps}.items():
        arguments = function.args
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        bare = [a.arg for a in every if a.annotation is None and a.arg not in {"self", "cls"}]
        missing = [*bare, *(["the result"] if function.returns is None else [])]
        if missing:
            yield function, "OB501", f"{name.lstrip('.')}: no annotation for {', '.join(missing)}"


def _lambdas(module: Outline) -> Iterator[Hit]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and any(isinstance(a, ast.Lambda) for a in node.args[:1]):
            kind = kind_of(node.func, module.scope)
            if kind is not None:
                yield node, "OB503", f"a lambda as a {kind}"
