"""A module as a table: which of its top-level statements bind which names, and what each of them uses."""

from __future__ import annotations

import ast
import contextlib
import copy
import dis
import functools
import hashlib
import io
import operator
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType
from typing import Any, TypeVar

Chain = tuple[str, ...]
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
#: A variable in a text that is expanded.
_EXPANDED = re.compile(r"\$(?:(\w+)|\{(\w+)\})")
#: Where statements stand in others.
_BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")
Node = TypeVar("Node", bound=ast.AST)
#: How closely a statement is looked at: its syntax, also its docstrings, or every character of it.
SYNTAX, DOCS, TEXT = 0, 1, 2


@dataclass(frozen=True)
class Import:
    """One name that an import statement binds.

    Args:
        module: the dotted name.
        level: leading dots.
        attribute: of ``from module import attribute``; "*" for all; None for ``import module``.
        bound: the name here; of ``import a.b`` it is ``a``.
        renamed: whether ``as`` was used.
    """

    module: Chain
    level: int
    attribute: str | None
    bound: str
    renamed: bool

    def __str__(self) -> str:
        return f"{'.' * self.level}{'.'.join(self.module)}:{self.attribute} as {self.bound}"


@dataclass
class Uses:
    """What a statement uses.

    Args:
        names: global name -> the chains of attributes that are taken from it; an empty chain where it is used whole.
        imports: that stand inside functions.
        strings: its string constants.
        words: every name and attribute.
        hints: the names in annotations of functions, which are evaluated only by who asks for them.
        variables: of the environment that it reads, by names that are written out.
        any_variable: whether it reads some by names that are not, so that any string may be one.
        sets: those that it sets.
        apart: 'exec' and 'eval', where they are only called with a namespace that is given.
    """

    names: dict[str, set[Chain]] = field(default_factory=dict)
    imports: list[Import] = field(default_factory=list)
    strings: set[str] = field(default_factory=set)
    words: set[str] = field(default_factory=set)
    hints: set[Chain] = field(default_factory=set)
    variables: set[str] = field(default_factory=set)
    any_variable: bool = False
    sets: set[str] = field(default_factory=set)
    apart: set[str] = field(default_factory=set)


class Statement:
    """A statement at the top level of a module.

    Args:
        node: its syntax, without what never runs.
        source: the text of the module.
    """

    def __init__(self, node: ast.stmt, source: str) -> None:
        self.node, self._source = node, source
        self._digests: dict[int, str] = {}

    @functools.cached_property
    def bound(self) -> tuple[str, ...]:
        """The names that it binds."""
        return tuple(dict.fromkeys(_bound(self.node)))

    @functools.cached_property
    def uses(self) -> Uses:
        """What it uses, in its functions as well."""
        uses = _uses(_stripped(self.node))
        uses.hints = set(_hints(self.node, ast.arg, *_FUNCTIONS))
        variables = set(_variables(self.node))
        uses.variables, uses.any_variable = {name for name in variables if name is not None}, None in variables
        uses.sets = set(_set_variables(self.node))
        uses.apart = {name for name in ("exec", "eval") if _is_apart(self.node, name)}
        return uses

    @functools.cached_property
    def guarded(self) -> list[Import]:
        """The imports of a statement that may do without: it catches what they raise, or looks first."""
        trying = any(isinstance(each, ast.Try) for each in ast.walk(self.node)) or "find_spec" in self.uses.words
        return list(_imports(ast.walk(self.node))) if trying else []

    @property
    def is_import(self) -> bool:
        """Whether it does nothing but import."""
        return isinstance(self.node, ast.Import | ast.ImportFrom)

    @property
    def is_definition(self) -> bool:
        """Whether it is a function or a class."""
        return isinstance(self.node, _DEFINITIONS)

    def digest(self, closely: int = SYNTAX) -> str:
        """12 hex digits for the statement; comments and layout do not count unless it is looked at as TEXT."""
        if closely not in self._digests:
            self._digests[closely] = hashlib.sha256(self._text(closely).encode()).hexdigest()[:12]
        return self._digests[closely]

    def _text(self, closely: int) -> str:
        if closely == TEXT:
            return "".join(_lines(self._source)[_first_line(self.node) - 1 : self.node.end_lineno])
        return ast.unparse(self.node if closely == DOCS else _stripped(self.node, annotations=True))


@dataclass
class Module:
    """A file of Python.

    Args:
        path: of it.
        statements: at its top level, without docstrings and what runs only in a script.
        binders: name -> the statements that bind it.
        imports: those that run when it is imported.
        data: its bytes.
        doc: its docstring.
    """

    path: Path
    statements: list[Statement]
    binders: dict[str, list[Statement]]
    imports: list[Import]
    data: bytes
    doc: str | None = None

    @functools.cached_property
    def bound_imports(self) -> dict[str, list[Import]]:
        """Name -> the imports that bind it."""
        found: dict[str, list[Import]] = {}
        for each in self.imports:
            found.setdefault(each.bound, []).append(each)
        return found

    @property
    def stars(self) -> list[Import]:
        """``from x import *``."""
        return [each for each in self.imports if each.attribute == "*"]

    @property
    def is_package(self) -> bool:
        """Whether it is the ``__init__`` of a package."""
        return self.path.name == "__init__.py"


def parse(path: Path) -> Module | None:
    """The module in a file, or None if it cannot be looked into (no source, or no Python)."""
    stat = path.stat()
    return _parse(path, stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(maxsize=4096)
def _parse(path: Path, mtime_ns: int, size: int) -> Module | None:
    data = path.read_bytes()
    try:
        tree = ast.parse(data, filename=str(path))
        text = data.decode("utf-8", errors="replace")
    except (SyntaxError, ValueError, RecursionError):
        return None
    statements = [Statement(node, text) for node in _running(tree.body)]
    binders: dict[str, list[Statement]] = {}
    for statement in statements:
        for name in statement.bound:
            binders.setdefault(name, []).append(statement)
    imports = [each for statement in statements for each in _imports(_outside_functions(statement.node))]
    return Module(path, statements, binders, imports, data, ast.get_docstring(tree, clean=False))


def every_import(path: Path) -> list[Import]:
    """All imports of a file, wherever they stand; none if it is no Python."""
    stat = path.stat()
    return _every_import(path, stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(maxsize=4096)
def _every_import(path: Path, mtime_ns: int, size: int) -> list[Import]:
    try:
        return list(_imports(ast.walk(ast.parse(path.read_bytes(), filename=str(path)))))
    except (SyntaxError, ValueError, RecursionError):
        return []


# -- what runs -------------------------------------------------------------------------------------------------------


def _running(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run on import: no bare constants, no ``if TYPE_CHECKING``, no ``if __name__ == ...``."""
    for node in body:
        if isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            continue
        if isinstance(node, ast.If) and _never(node.test):
            yield from _running(node.orelse)
            continue
        yield node


def _never(test: ast.expr) -> bool:
    if isinstance(test, ast.Compare) and isinstance(test.left, ast.Name) and test.left.id == "__name__":
        right = test.comparators[0]
        return isinstance(test.ops[0], ast.Eq) and isinstance(right, ast.Constant) and right.value == "__main__"
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def _outside_functions(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes below a statement that run with it."""
    waiting = [node]
    while waiting:
        here = waiting.pop(0)
        yield here
        if not isinstance(here, (*_FUNCTIONS, ast.Lambda)):
            waiting.extend(ast.iter_child_nodes(here))


@functools.lru_cache(maxsize=64)
def _lines(source: str) -> list[str]:
    """Lines as Python counts them."""
    return io.StringIO(source, newline=None).readlines()


def _first_line(node: ast.stmt) -> int:
    """With its decorators."""
    return min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", ()))])


# -- names -----------------------------------------------------------------------------------------------------------


def _imports(nodes: Iterator[ast.AST]) -> Iterator[Import]:
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                module = tuple(alias.name.split("."))
                yield Import(module, 0, None, alias.asname or module[0], alias.asname is not None)
        elif isinstance(node, ast.ImportFrom):
            module = tuple(node.module.split(".")) if node.module else ()
            for alias in node.names:
                yield Import(module, node.level, alias.name, alias.asname or alias.name, alias.asname is not None)


def _bound(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, _DEFINITIONS):
        yield statement.name
        return
    for node in _outside_functions(statement):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from (each.bound for each in _imports(iter([node])))
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del):
            yield node.id
        elif isinstance(node, (*_DEFINITIONS, ast.ExceptHandler)) and node.name:
            yield node.name
    for node in ast.walk(statement):
        if isinstance(node, ast.Global):
            yield from node.names


def _uses(node: ast.stmt) -> Uses:
    uses = Uses()
    code = compile(ast.Module([_not_future(node)], []), "<statement>", "exec", dont_inherit=True)
    wanted = set(_globals(code))
    inside = set(map(id, _outside_functions(node)))
    uses.imports = list(_imports(n for n in ast.walk(node) if id(n) not in inside))
    wanted |= {each.bound for each in uses.imports}
    taken: set[int] = set()
    for each in ast.walk(node):
        if isinstance(each, ast.Constant) and isinstance(each.value, str):
            uses.strings.add(each.value)
        elif isinstance(each, ast.Attribute):
            uses.words.add(each.attr)
            if id(each) not in taken:
                _take(each, wanted, taken, uses)
        elif isinstance(each, ast.Name):
            uses.words.add(each.id)
            if id(each) not in taken and each.id in wanted:
                uses.names.setdefault(each.id, set()).add(())
    for name in wanted - {each.bound for each in uses.imports}:
        uses.names.setdefault(name, set())
    if isinstance(node, ast.ClassDef):  # of fields: a dataclass and its like evaluate them, also where they are strings
        for name, *rest in _hints(node, ast.AnnAssign):
            uses.names.setdefault(name, set()).add(tuple(rest))
    return uses


def _is_apart(node: ast.stmt, name: str) -> bool:
    """Whether `name` is only called, and with a namespace. What that is made of is seen by itself."""
    uses = [each for each in ast.walk(node) if isinstance(each, ast.Name) and each.id == name]
    given = [each.func for each in ast.walk(node) if isinstance(each, ast.Call) and len(each.args) > 1]
    return all(each in given for each in uses)


def _variables(node: ast.stmt) -> Iterator[str | None]:
    """``os.environ["A"]``, ``os.environ.get("A")``, ``os.getenv("A")``, ``"A" in os.environ``, ``expandvars("$A")``.

    None for each of which the name is not written there.
    """
    for each in ast.walk(node):
        named: ast.AST | None = None
        if isinstance(each, ast.Call) and each.args:
            chain = chain_of(each.func) or ("",)
            if chain[-1] == "expandvars":
                yield from _expanded(each.args[0])
            named = each.args[0] if chain[-1] == "getenv" or chain[-2:] == ("environ", "get") else None
        elif isinstance(each, ast.Subscript) and isinstance(each.ctx, ast.Load):
            named = each.slice if _is_environment(each.value) else None
        elif isinstance(each, ast.Compare):
            named = each.left if _is_environment(each.comparators[0]) else None
        if named is not None:
            yield named.value if isinstance(named, ast.Constant) and isinstance(named.value, str) else None


def uses_of(code: CodeType) -> Uses:
    """What a piece of compiled code uses, but not the code inside it: of what has no syntax any more."""
    uses = Uses(words=set(code.co_names), strings=set(_texts(code.co_consts)))
    if uses.words & {"environ", "getenv", "expandvars"}:
        uses.any_variable = True
        uses.variables = {text for text in uses.strings if text.isidentifier()}
        uses.variables |= {found[1] or found[2] for text in uses.strings for found in _EXPANDED.finditer(text)}
    return uses


def _texts(constants: Iterable[Any]) -> Iterator[str]:
    for each in constants:
        if isinstance(each, str):
            yield each
        elif isinstance(each, tuple | frozenset):
            yield from _texts(each)


def _expanded(node: ast.expr) -> Iterator[str | None]:
    """The variables in a text such as ``$A/${B}``."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield from (found[1] or found[2] for found in _EXPANDED.finditer(node.value))
    else:
        yield None


def _set_variables(node: ast.stmt) -> Iterator[str]:
    """``os.environ["A"] = "1"``."""
    for each in ast.walk(node):
        if not isinstance(each, ast.Subscript) or not isinstance(each.ctx, ast.Store):
            continue
        if _is_environment(each.value) and isinstance(each.slice, ast.Constant) and isinstance(each.slice.value, str):
            yield each.slice.value


def _is_environment(node: ast.expr) -> bool:
    return (chain_of(node) or ("",))[-1] == "environ"


def _hints(node: ast.stmt, *kinds: type[ast.AST]) -> Iterator[Chain]:
    """The names in annotations below a statement."""
    for each in ast.walk(node):
        if isinstance(each, kinds):
            yield from names_in(getattr(each, "returns", None) or getattr(each, "annotation", None))


def names_in(annotation: ast.expr | None) -> Iterator[Chain]:
    """The names in an annotation, also where it is a string."""
    for each in ast.walk(annotation) if annotation is not None else ():
        if isinstance(each, ast.Constant) and isinstance(each.value, str):
            with contextlib.suppress(SyntaxError, ValueError):
                yield from names_in(ast.parse(each.value, mode="eval").body)
        chain = chain_of(each)
        if chain is not None:
            yield chain


def chain_of(node: ast.AST) -> Chain | None:
    """``a.b.c`` as ("a", "b", "c"); None for anything else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.insert(0, node.attr)
        node = node.value
    return (node.id, *parts) if isinstance(node, ast.Name) else None


def _take(node: ast.Attribute, wanted: set[str], taken: set[int], uses: Uses) -> None:
    """Note ``a.b.c`` as one chain, if `a` is wanted."""
    chain: list[str] = []
    here: ast.expr = node
    while isinstance(here, ast.Attribute):
        chain.insert(0, here.attr)
        taken.add(id(here))
        here = here.value
    if isinstance(here, ast.Name) and here.id in wanted:
        taken.add(id(here))
        uses.names.setdefault(here.id, set()).add(tuple(chain))


def _not_future(node: ast.stmt) -> ast.stmt:
    return (
        ast.Pass(lineno=1, col_offset=0) if isinstance(node, ast.ImportFrom) and node.module == "__future__" else node
    )


def _globals(code: CodeType) -> Iterator[str]:
    """The names that code looks up among the globals, its nested functions included; not those that it only binds."""
    for instruction in dis.get_instructions(code):
        name = instruction.opname
        if name.startswith("LOAD") and ("NAME" in name or "GLOBAL" in name):
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _globals(constant)


# -- what does not count ---------------------------------------------------------------------------------------------


def _stripped(node: Node, *, annotations: bool = False) -> Node:
    """Without docstrings; and without the annotations of functions, which run nothing, unless a decorator sees them.

    Args:
        annotations: keep them.

    Returns:
        The node itself where there is nothing to leave out, else one that shares the rest with it.
    """
    changes: dict[str, Any] = {}
    for name in _BLOCKS:
        block = getattr(node, name, None)
        if isinstance(block, list):
            inner = [_stripped(each, annotations=annotations) for each in block]
            if any(map(operator.is_not, inner, block)):
                changes[name] = inner
    if isinstance(node, _DEFINITIONS):
        first, *others = changes.get("body", node.body)
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            changes["body"] = others or [ast.copy_location(ast.Pass(), first)]
    if isinstance(node, _FUNCTIONS) and not annotations and not node.decorator_list:
        changes |= {"returns": None, "args": _without_annotations(node.args)}
    return _changed(node, changes) if changes else node


def _without_annotations(args: ast.arguments) -> ast.arguments:
    def plain(arg: ast.arg | None) -> ast.arg | None:
        return arg if arg is None or arg.annotation is None else _changed(arg, {"annotation": None})

    several = {name: [plain(arg) for arg in getattr(args, name)] for name in ("posonlyargs", "args", "kwonlyargs")}
    return _changed(args, {**several, "vararg": plain(args.vararg), "kwarg": plain(args.kwarg)})


def _changed(node: Node, changes: dict[str, Any]) -> Node:
    other = copy.copy(node)
    for name, value in changes.items():
        setattr(other, name, value)
    return other
