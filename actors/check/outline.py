"""What a module defines, and what a name in it stands for, as far as the text tells.

Names resolve to dotted text: `datetime.now` to `datetime.datetime.now`, `Path(x).exists` to
`pathlib.Path().exists`, a function of the module itself to `.helper`, its class's method to
`.Class().method`. What cannot be known resolves to None, and then nothing is reported.
"""

import ast
import builtins
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
_DEPTH_MAX = 12
_BUILTINS = frozenset(dir(builtins))
_NESTED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
_PATHS = ("pathlib.Path()", "pathlib.PosixPath()", "pathlib.WindowsPath()")


@dataclass(slots=True)
class Scope:
    """The names of a module or function: imports, annotations, and single assigned values."""

    outer: "Scope | None" = None
    imports: dict[str, str] = field(default_factory=dict[str, str])
    notes: dict[str, ast.expr] = field(default_factory=dict[str, ast.expr])
    values: dict[str, ast.expr | None] = field(default_factory=dict[str, ast.expr | None])
    locals: dict[str, str] = field(default_factory=dict[str, str])

    def find(self, name: str) -> "Scope | None":
        """Return the innermost scope that binds `name`."""
        scope: Scope | None = self
        while scope is not None and not scope.binds(name):
            scope = scope.outer
        return scope

    def binds(self, name: str) -> bool:
        """Tell whether the name is bound here."""
        return name in self.imports or name in self.values or name in self.locals

    def bind(self, name: str, value: ast.expr | None) -> None:
        """Note an assignment; two different values make the name unknown."""
        self.values[name] = value if name not in self.values else None

    def resolve(self, node: ast.AST | None, depth: int = 0) -> str | None:
        """Return what an expression stands for, or None."""
        if depth > _DEPTH_MAX:
            return None
        match node:
            case ast.Name(id=name):
                return self._resolve_name(name, depth + 1)
            case ast.Attribute(value=value, attr=attr):
                base = self.resolve(value, depth + 1)
                return None if base is None else _join(base, attr)
            case ast.Call(func=func):
                made = self.resolve(func, depth + 1)
                return None if made is None else _called(made)
            case ast.BinOp(left=left, op=ast.Div()):
                base = self.resolve(left, depth + 1)
                return base if base in _PATHS else None
            case _:
                return None

    def _resolve_name(self, name: str, depth: int) -> str | None:
        scope = self.find(name)
        if scope is None:
            return f"builtins.{name}" if name in _BUILTINS else None
        if name in scope.imports:
            return scope.imports[name]
        if name in scope.locals:
            return scope.locals[name]
        if name in scope.notes:
            return scope.resolve_note(scope.notes[name], depth)
        return scope.resolve(scope.values[name], depth)

    def resolve_note(self, note: ast.expr, depth: int = 0) -> str | None:
        """Return what an annotation says: the class's name and `()`, for an instance."""
        match note:
            case ast.Constant(value=str(text)):
                return self._resolve_text(text, depth)
            case ast.BinOp(left=left, op=ast.BitOr(), right=right):
                return self.resolve_note(left, depth) or self.resolve_note(right, depth)
            case ast.Subscript(value=value):
                return self.resolve_note(value, depth)
            case _:
                made = self.resolve(note, depth + 1)
                return None if made is None else f"{made}()"

    def _resolve_text(self, text: str, depth: int) -> str | None:
        try:
            return self.resolve_note(ast.parse(text, mode="eval").body, depth + 1)
        except SyntaxError:
            return None


def _join(base: str, attr: str) -> str:
    if base in _PATHS and attr in {"parent", "parents"}:
        return base
    return f"{base}.{attr}"


def _called(made: str) -> str:
    if made in {"pathlib.Path.cwd", "pathlib.Path.home", *(f"{p}.joinpath" for p in _PATHS)}:
        return _PATHS[0]
    return f"{made}()"


@dataclass(slots=True)
class Outline:
    """A module: its scope, its functions by resolved name, and which of them are what."""

    tree: ast.Module
    scope: Scope
    functions: dict[str, Function] = field(default_factory=dict[str, Function])
    workflows: dict[str, Function] = field(default_factory=dict[str, Function])
    steps: dict[str, Function] = field(default_factory=dict[str, Function])
    homes: dict[str, str] = field(default_factory=dict[str, str])

    def scope_of(self, name: str) -> Scope:
        """Return the scope of a function, with `self` and `cls` known in methods."""
        scope = scope_of(self.functions[name], self.scope)
        home = self.homes.get(name)
        first = [a.arg for a in self.functions[name].args.args[:1]]
        if home is not None and first in (["self"], ["cls"]):
            scope.locals[first[0]] = f"{home}()" if first == ["self"] else home
        return scope

    def callee(self, name: str | None) -> str | None:
        """Return the key of the local function that a call of `name` runs, if it is one."""
        if name is None or not name.startswith("."):
            return None
        plain = name.replace("()", "")
        if f"{plain}.__init__" in self.functions:
            return f"{plain}.__init__"
        return plain if plain in self.functions else None


def outline(tree: ast.Module) -> Outline:
    """Read a module."""
    scope = Scope()
    _fill(scope, tree.body)
    found = Outline(tree, scope)
    _define(found, tree.body, "", scope)
    return found


def _define(found: Outline, body: list[ast.stmt], home: str, scope: Scope) -> None:
    for node in _statements(body):
        if isinstance(node, ast.ClassDef):
            if not home:
                scope.locals[node.name] = f".{node.name}"
            _define(found, node.body, f"{home}.{node.name}", scope)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            name = f"{home}.{node.name}"
            if not home:
                scope.locals[node.name] = name
            found.functions[name] = node
            if home:
                found.homes[name] = home
            kind = decorated_as(node, scope)
            if kind is not None:
                (found.workflows if kind == "workflow" else found.steps)[name] = node


def decorated_as(node: Function, scope: Scope) -> str | None:
    """Return `workflow` or `step` where a decorator of offbook says so."""
    for decorator in node.decorator_list:
        kind = kind_of(decorator, scope)
        if kind is not None:
            return kind
    return None


def kind_of(decorator: ast.expr, scope: Scope) -> str | None:
    """Return `workflow` or `step` if the expression is offbook's decorator, called or not."""
    func = decorator.func if isinstance(decorator, ast.Call) else decorator
    name = scope.resolve(func)
    if name is None and isinstance(func, ast.Name) and scope.find(func.id) is None:
        name = f"offbook.{func.id}"  # from a star import
    kind = (name or "").rpartition(".")[2]
    ours = name is not None and name.split(".", 1)[0] == "offbook"
    return kind if ours and kind in {"workflow", "step"} else None


def scope_of(function: Function | ast.Lambda, outer: Scope) -> Scope:
    """Return the scope of a function inside `outer`."""
    scope = Scope(outer)
    arguments = function.args
    for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
        scope.values[argument.arg] = None
        if argument.annotation is not None:
            scope.notes[argument.arg] = argument.annotation
    for rest in (arguments.vararg, arguments.kwarg):
        if rest is not None:
            scope.values[rest.arg] = None
    if not isinstance(function, ast.Lambda):
        _fill(scope, function.body)
    return scope


def _fill(scope: Scope, body: list[ast.stmt]) -> None:
    shared: set[str] = set()
    for statement in body:
        for node in own_nodes(statement):
            if isinstance(node, ast.Global | ast.Nonlocal):
                shared.update(node.names)
            _note(scope, node)
    for name in shared:
        scope.values.pop(name, None)


def _note(scope: Scope, node: ast.AST) -> None:  # noqa: C901  (one case for each kind of node)
    match node:
        case ast.Import(names=names):
            for alias in names:
                root = alias.name.split(".", 1)[0]
                scope.imports[alias.asname or root] = alias.name if alias.asname else root
        case ast.ImportFrom(module=module, names=names, level=level):
            package = f"{'?' * level}{module or ''}"
            for alias in names:
                scope.imports[alias.asname or alias.name] = _canonical(f"{package}.{alias.name}")
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            scope.bind(name, value)
        case ast.NamedExpr(target=ast.Name(id=name), value=value):
            scope.bind(name, value)
        case ast.AnnAssign(target=ast.Name(id=name), annotation=note, value=value):
            scope.bind(name, value)
            scope.notes[name] = note
        case ast.withitem(optional_vars=ast.Name(id=name), context_expr=value):
            scope.bind(name, value)
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            scope.bind(name, None)
        case ast.ExceptHandler(name=str(name)):
            scope.bind(name, None)
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()) if name not in scope.values:
            scope.values[name] = None
        case _:
            pass


def _canonical(name: str) -> str:
    return name.replace("concurrent.futures.thread.", "concurrent.futures.")


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements of a body and of the `if`, `try` and `with` blocks in it."""
    for node in body:
        yield node
        if isinstance(node, ast.If | ast.Try | ast.With):
            for name in ("body", "orelse", "finalbody"):
                yield from _statements(getattr(node, name, []))


def own_nodes(root: ast.AST) -> Iterator[ast.AST]:
    """Yield a node and what is below it, without the insides of functions and classes."""
    yield root
    if isinstance(root, _NESTED):
        return
    for child in ast.iter_child_nodes(root):
        yield from own_nodes(child)
