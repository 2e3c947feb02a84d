"""Which top-level statements only bind their names, so that they count for nobody who does not use these.

Everything else may change what others see (a list that is appended to, a registry, a switch) and always counts.
"""

from __future__ import annotations

import ast
from typing import Protocol

from runner.code_decorators import Decorators
from runner.code_library import registers
from runner.code_syntax import Chain, Module, Statement, chain_of

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_PURE_BUILTINS = {
    "abs", "all", "any", "bin", "bool", "bytearray", "bytes", "chr", "complex", "dict", "divmod", "enumerate", "filter",
    "float", "format", "frozenset", "getattr", "hash", "hex", "int", "isinstance", "issubclass", "len", "list", "map",
    "max", "min", "object", "oct", "open", "ord", "pow", "property", "range", "repr", "reversed", "round", "set",
    "slice", "sorted", "staticmethod", "classmethod", "str", "sum", "super", "tuple", "type", "zip",
}  # fmt: skip
#: Call what they are given first.
_CALLERS = {"map", "filter", "reduce"}
#: Calls that change nothing but what they return, by the beginning of their full names.
_PURE = (
    "abc.", "attr.", "attrs.", "collections.", "contextlib.", "copy.", "dataclasses.", "datetime.", "decimal.", "enum.",
    "fractions.", "functools.", "hashlib.", "itertools.", "json.", "logging.getLogger.", "math.", "numba.", "numpy.",
    "operator.", "os.environ.get.", "os.getenv.", "os.path.", "pathlib.", "pyarrow.", "pydantic.", "ray.remote.", "re.",
    "string.", "struct.", "textwrap.", "tomllib.", "torch.compile.", "torch.device.", "torch.distributed.elastic.",
    "torch.finfo.", "torch.inference_mode.", "torch.jit.", "torch.no_grad.", "torch.tensor.", "types.", "typing.",
    "typing_extensions.", "uuid.", "yaml.safe_load.",
)  # fmt: skip
_NOT_PURE = ("numpy.random", "numpy.set", "numpy.seterr", "pyarrow.set", "pyarrow.register")
_DATACLASSES = ("dataclasses.", "attr.", "attrs.", "pydantic.dataclasses.")
_HOOKS = {"__init_subclass__", "__init__", "__new__", "__post_init__"}
#: What describes a job: such a value is data, and whoever builds one is no part of what its functions do.
DEFINITIONS = {"Job", "Prep", "Train", "Dataset", "Cluster", "Group", "Kubernetes", "Volume"}


class World(Protocol):
    """What is needed to know of other modules."""

    def full_name(self, module: Module, chain: Chain) -> str | None:
        """``numpy.array`` for what an import brought from elsewhere; None for what is the user's own, or unknown."""

    def definitions(self, module: Module, chain: Chain) -> list[tuple[Module, Statement]]:
        """The user's own functions, classes and assignments that a chain of names leads to."""


class Plain:
    """Args:
    world: of the modules.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._own = Decorators(world, self._harmless)
        self._known: dict[int, bool] = {}

    def is_plain(self, statement: Statement, module: Module) -> bool:
        """Whether a statement only binds its names."""
        key = id(statement)
        if key not in self._known:
            self._known[key] = False  # one that leads to itself
            self._known[key] = self._statement(statement.node, module)
        return self._known[key]

    def _statement(self, node: ast.stmt, module: Module) -> bool:
        if isinstance(node, ast.Import | ast.ImportFrom | ast.Pass):
            return True
        if isinstance(node, _FUNCTIONS):
            return self._function(node, module)
        if isinstance(node, ast.ClassDef):
            return self._class(node, module)
        if isinstance(node, ast.Assign):
            targets = all(map(_is_name, node.targets))
            return targets and (self.pure(node.value, module) or self._defines(node.value, module))
        if isinstance(node, ast.AnnAssign):
            return _is_name(node.target) and (
                node.value is None or self.pure(node.value, module) or self._defines(node.value, module)
            )
        if isinstance(node, ast.If):
            return self.pure(node.test, module) and self._all([*node.body, *node.orelse], module)
        if isinstance(node, ast.Try):
            handled = [each for handler in node.handlers for each in handler.body]
            return self._all([*node.body, *handled, *node.orelse, *node.finalbody], module)
        return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)

    def _all(self, body: list[ast.stmt], module: Module) -> bool:
        return all(self._statement(node, module) for node in body)

    # -- definitions ---------------------------------------------------------------------------------------------

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef, module: Module) -> bool:
        given = [*node.args.defaults, *(each for each in node.args.kw_defaults if each is not None)]
        return all(self.pure(each, module) for each in given) and self._decorators(node, module)

    def _decorators(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, module: Module) -> bool:
        return all(self._decorator(decorator, module) for decorator in node.decorator_list)

    def _decorator(self, decorator: ast.expr, module: Module) -> bool:
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        if isinstance(decorator, ast.Call) and not self._arguments(decorator, module):
            return False
        return self._harmless(called, module) or self._own.keeps(decorator, module)

    def _class(self, node: ast.ClassDef, module: Module) -> bool:
        if not self._decorators(node, module):
            return False
        if any(each.arg is None or not self.pure(each.value, module) for each in node.keywords):
            return False
        if any(each.arg == "metaclass" and not self._harmless(each.value, module) for each in node.keywords):
            return False
        if not all(self._harmless_base(base, module, frozenset()) for base in node.bases):
            return False
        return all(self._in_class(each, module) for each in node.body)

    def _in_class(self, node: ast.stmt, module: Module) -> bool:
        if isinstance(node, _FUNCTIONS):
            given = [*node.args.defaults, *(each for each in node.args.kw_defaults if each is not None)]
            own = (ast.Attribute,)  # @x.setter of a property in this very class
            decorators = [d for d in node.decorator_list if not (isinstance(d, own) and _setter(d))]
            return all(self.pure(each, module) for each in given) and all(
                self._decorator(each, module) for each in decorators
            )
        return self._statement(node, module)

    def _harmless_base(self, base: ast.expr, module: Module, seen: frozenset[str]) -> bool:
        """Whether to derive from it runs no code of the user's."""
        if isinstance(base, ast.Subscript):
            base = base.value
        chain = chain_of(base)
        if chain is None:
            return False
        found = self._world.definitions(module, chain)
        for owner, statement in found:
            node = statement.node
            if not isinstance(node, ast.ClassDef) or str(owner.path) + node.name in seen:
                return False
            names = {each.name for each in node.body if isinstance(each, _FUNCTIONS)}
            if "__init_subclass__" in names or node.keywords:
                return False
            inner = seen | {str(owner.path) + node.name}
            if not all(self._harmless_base(each, owner, inner) for each in node.bases):
                return False
        name = self._world.full_name(module, chain)
        return not registers(name) if name is not None else bool(found) or chain[0] not in module.binders

    # -- expressions ---------------------------------------------------------------------------------------------

    def pure(self, node: ast.AST, module: Module) -> bool:
        """Whether to evaluate an expression changes nothing."""
        if isinstance(node, ast.Lambda):
            return all(self.pure(each, module) for each in node.args.defaults)
        if isinstance(node, ast.Await | ast.Yield | ast.YieldFrom | ast.NamedExpr):
            return False
        if isinstance(node, ast.Call):
            return self._harmless(node.func, module) and self._arguments(node, module) and self._passed(node, module)
        return all(self.pure(child, module) for child in ast.iter_child_nodes(node))

    def _arguments(self, call: ast.Call, module: Module) -> bool:
        given = [*call.args, *(each.value for each in call.keywords)]
        return all(self.pure(each, module) for each in given)

    def _passed(self, call: ast.Call, module: Module) -> bool:
        """Whether what a call runs changes nothing: ``map(f, x)``, ``sorted(x, key=f)``, ``type(n, b, d)``."""
        name = (chain_of(call.func) or ("",))[-1]
        if name == "type" and len(call.args) > 1:
            return False  # a base may keep a list of its classes
        passed = [each.value for each in call.keywords if each.arg == "key"]
        passed += call.args[:1] if name in _CALLERS else []
        return all(self._runs_harmless(each, module) for each in passed)

    def _runs_harmless(self, passed: ast.expr, module: Module) -> bool:
        if isinstance(passed, ast.Lambda):
            return self.pure(passed.body, module)
        chain = chain_of(passed)
        if chain is None:
            return self.pure(passed, module)
        own_type = chain[0] in _PURE_BUILTINS and chain[0] not in module.binders  # str.lower
        return own_type or self._harmless(passed, module)

    def _harmless(self, called: ast.expr, module: Module) -> bool:
        """Whether to call it, or to decorate with it, changes nothing but what it returns."""
        if isinstance(called, ast.Attribute) and chain_of(called) is None:
            return self._method(called, module)
        chain = chain_of(called)
        if chain is None:
            return False
        name = self._world.full_name(module, chain)
        if name is not None:
            return _is_pure(name)
        if chain[0] not in module.binders:
            return len(chain) == 1 and chain[0] in _PURE_BUILTINS
        return self._is_record(module, chain)

    def _method(self, called: ast.Attribute, module: Module) -> bool:
        """A method of a constant, or of what a pure function of another library has returned."""
        value = called.value
        while isinstance(value, ast.Attribute | ast.Subscript):
            if isinstance(value, ast.Subscript) and not self.pure(value.slice, module):
                return False
            value = value.value
        if isinstance(value, ast.Call):
            chain = chain_of(value.func)
            own = chain is not None and bool(self._world.definitions(module, chain))
            return not own and self.pure(value, module)
        return isinstance(value, ast.Constant | ast.JoinedStr)

    def _is_record(self, module: Module, chain: Chain) -> bool:
        """A dataclass that only keeps what it is given."""
        found = self._world.definitions(module, chain)
        for owner, statement in found:
            node = statement.node
            if not isinstance(node, ast.ClassDef) or not self.is_plain(statement, owner) or node.bases:
                return False
            made = [chain_of(d.func if isinstance(d, ast.Call) else d) for d in node.decorator_list]
            names = [self._world.full_name(owner, each) or "" for each in made if each is not None]
            if not any(name.startswith(_DATACLASSES) for name in names):
                return False
            if any(isinstance(each, _FUNCTIONS) and each.name in _HOOKS for each in node.body):
                return False
        return bool(found)

    # -- jobs ----------------------------------------------------------------------------------------------------

    def _defines(self, value: ast.expr, module: Module) -> bool:
        """``job = make_job(3)``: a value that describes a job, built by functions that change nothing else."""
        return isinstance(value, ast.Call) and self._builds(value.func, module, set()) is True

    def _builds(self, called: ast.expr, module: Module, seen: set[int]) -> bool | None:
        """Whether a function makes definitions; None if it, or one that it calls, may change something else."""
        chain = chain_of(called)
        found = self._world.definitions(module, chain) if chain else []
        makes = False
        for owner, statement in found:
            if not isinstance(statement.node, ast.FunctionDef) or id(statement) in seen:
                continue
            seen.add(id(statement))
            if _changes(statement.node):
                return None
            for each in ast.walk(statement.node):
                if not isinstance(each, ast.Call):
                    continue
                inner = chain_of(each.func)
                name = self._world.full_name(owner, inner) if inner else None
                makes = makes or (name is not None and _is_definition(name))
                below = self._builds(each.func, owner, seen)
                if below is None:
                    return None
                makes = makes or below
        return makes


def _changes(function: ast.FunctionDef) -> bool:
    """Whether a function assigns, or may append, to what is not its own."""
    own = {node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    for node in ast.walk(function):
        if isinstance(node, ast.Global | ast.Nonlocal):
            return True
        changed: list[ast.expr] = []
        if isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
            changed.append(node.value)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            called = node.value.func
            changed.append(called.value if isinstance(called, ast.Attribute) else called)
        for each in changed:
            while isinstance(each, ast.Attribute | ast.Subscript):
                each = each.value
            if not (isinstance(each, ast.Name) and each.id in own):
                return True
    return False


def _is_pure(name: str) -> bool:
    if name.startswith("runner."):
        return _is_definition(name)
    return f"{name}.".startswith(_PURE) and not name.startswith(_NOT_PURE)


def _is_definition(name: str) -> bool:
    return name.startswith("runner.") and name.split(".")[-1] in DEFINITIONS


def _is_name(node: ast.expr) -> bool:
    if isinstance(node, ast.Tuple | ast.List):
        return all(map(_is_name, node.elts))
    return isinstance(node, ast.Name)


def _setter(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.attr in ("setter", "getter", "deleter")
