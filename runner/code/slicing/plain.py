"""Which top-level statements only bind their names, so that they count for nobody who does not use these.

Everything else may change what others see (a list that is appended to, a registry, a switch) and always counts.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Protocol

from runner.code.slicing.decorators import Decorators
from runner.code.slicing.library import registers
from runner.code.slicing.syntax import Chain, Module, Statement, chain_of

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_PURE_BUILTINS = {
    "abs", "all", "any", "bin", "bool", "bytearray", "bytes", "chr", "complex", "dict", "divmod", "enumerate", "filter",
    "float", "format", "frozenset", "getattr", "hash", "hex", "int", "isinstance", "issubclass", "len", "list", "map",
    "max", "min", "object", "oct", "open", "ord", "pow", "property", "range", "repr", "reversed", "round", "set",
    "slice", "sorted", "staticmethod", "classmethod", "str", "sum", "super", "tuple", "type", "zip",
}  # fmt: skip
#: Builtins that call what they are given first.
_CALLERS = {"map", "filter"}
#: What keeps what it is given, and neither calls it nor looks into it: builtins, and others by the beginning of their
#: full names.
_KEEPING_BUILTINS = {"isinstance", "issubclass", "property", "staticmethod", "classmethod", "type"}
_KEEPING = (
    "abc.", "attr.", "attrs.", "collections.ChainMap.", "collections.OrderedDict.", "collections.namedtuple.",
    "contextlib.", "dataclasses.", "enum.", "functools.cache.", "functools.cached_property.", "functools.lru_cache.",
    "functools.partial.", "functools.partialmethod.", "functools.singledispatch.", "functools.total_ordering.",
    "functools.wraps.", "logging.", "numba.", "numpy.frompyfunc.", "numpy.vectorize.", "pydantic.", "ray.remote.",
    "torch.compile.", "torch.inference_mode.", "torch.jit.", "torch.no_grad.", "types.", "typing.",
    "typing_extensions.",
)  # fmt: skip
#: Methods that change what they are of.
_CHANGING = {
    "__setitem__", "add", "append", "appendleft", "clear", "discard", "extend", "insert", "pop", "popitem", "popleft",
    "put", "register", "remove", "setdefault", "sort", "update", "write",
}  # fmt: skip
#: What operates on a value, so that methods of its class run.
_OPERATES = (ast.BinOp, ast.BoolOp, ast.Compare, ast.FormattedValue, ast.Starred, ast.Subscript, ast.UnaryOp)
#: Builtins whose results are used up by whoever looks into them.
_USED_UP = {"enumerate", "filter", "iter", "map", "open", "reversed", "zip"}
#: Calls that change nothing but what they return, by the beginning of their full names.
_PURE = (
    "abc.", "attr.", "attrs.", "collections.", "contextlib.", "copy.", "dataclasses.", "datetime.", "decimal.", "enum.",
    "fractions.", "functools.", "hashlib.", "itertools.", "json.", "logging.getLogger.", "math.", "numba.", "numpy.",
    "operator.", "os.environ.get.", "os.getenv.", "os.path.", "pathlib.", "pyarrow.", "pydantic.", "ray.remote.", "re.",
    "string.", "struct.", "textwrap.", "tomllib.", "torch.compile.", "torch.device.", "torch.distributed.elastic.",
    "torch.finfo.", "torch.inference_mode.", "torch.jit.", "torch.no_grad.", "torch.tensor.", "types.", "typing.",
    "typing_extensions.", "uuid.", "yaml.safe_load.",
)  # fmt: skip
#: Of these, what changes something all the same.
_IMPURE = (
    "numpy.copyto", "numpy.fill_diagonal", "numpy.put", "numpy.random", "numpy.set", "numpy.seterr", "operator.call",
    "operator.delitem", "operator.i", "operator.setitem", "pyarrow.set", "pyarrow.register", "types.new_class",
)  # fmt: skip
#: And what begins like one of those, and changes nothing after all.
_PURE_AFTER_ALL = (
    "operator.index",
    "operator.indexOf",
    "operator.inv",
    "operator.invert",
    "operator.is_",
    "operator.itemgetter",
)
#: Keywords by which a call changes what it is given, or derives a class.
_IMPURE_KEYWORDS = {"out", "bases", "__base__"}
_DATACLASSES = ("dataclasses.", "attr.", "attrs.", "pydantic.dataclasses.")
#: Methods that run when an object is made.
_HOOKS = {
    "__attrs_init__", "__attrs_post_init__", "__attrs_pre_init__", "__getattribute__", "__init__", "__init_subclass__",
    "__new__", "__post_init__", "__setattr__",
}  # fmt: skip
#: Those that run when another class is derived, or written in brackets behind.
_DERIVING_HOOKS = {"__class_getitem__", "__init_subclass__", "__pydantic_init_subclass__"}
#: Those that run for each member of an enum.
_MEMBER_HOOKS = {"__init__", "__new__", "_generate_next_value_", "__set_name__", "__setattr__"}
#: Arguments of a field that run when an object is made.
_FIELD_HOOKS = {"converter", "default_factory", "factory", "on_setattr", "validator"}
#: What describes a job: such a value is data, and whoever builds one is no part of what its functions do.
DEFINITIONS = {"Job", "Prep", "Train", "Dataset", "Cluster", "Group", "Kubernetes", "Volume"}


class World(Protocol):
    """What is needed to know of other modules."""

    def full_name(self, module: Module, chain: Chain) -> str | None:
        """``numpy.array`` for what an import brought from elsewhere; None for what is the user's own, or unknown."""

    def definitions(self, module: Module, chain: Chain) -> list[tuple[Module, Statement]]:
        """The user's own functions, classes and assignments that a chain of names leads to."""


class Plain:
    """Tells whether a statement only binds its names.

    Args:
        world: of the modules.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._own = Decorators(world, self._harmless)
        self._known: dict[int, bool] = {}
        self._lives: dict[tuple[Path, Chain], bool] = {}

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
            return (
                _is_name(node.target)
                and self.pure(node.annotation, module)
                and (node.value is None or self.pure(node.value, module) or self._defines(node.value, module))
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
        if self._makes_members(node, module, frozenset()):
            return False
        return all(self._in_class(each, module) for each in node.body)

    def _makes_members(self, node: ast.ClassDef, module: Module, seen: frozenset[str], hooks: bool = False) -> bool:
        """Whether it is an enum whose members are made by code of the user's."""
        hooks = hooks or bool(_MEMBER_HOOKS & _bound_in(node))
        for base in node.bases:
            chain = chain_of(base)
            if chain is None:
                continue
            if hooks and (self._world.full_name(module, chain) or "").startswith("enum."):
                return True
            for owner, statement in self._world.definitions(module, chain):
                above = statement.node
                key = f"{owner.path} {getattr(above, 'name', '')}"
                if not isinstance(above, ast.ClassDef) or key in seen:
                    continue
                if self._makes_members(above, owner, seen | {key}, hooks):
                    return True
        return False

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
            if _DERIVING_HOOKS & _bound_in(node) or node.keywords:
                return False
            if any("__init_subclass__" in each.uses.words for each in owner.statements):
                return False  # given to a class afterwards
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
        if isinstance(node, ast.Attribute):
            if self._alive(node.value, module):
                return False  # a property, or `__getattr__`
        elif isinstance(node, ast.comprehension):
            if self._alive(node.iter, module):
                return False
        elif isinstance(node, _OPERATES) and any(self._alive(each, module) for each in ast.iter_child_nodes(node)):
            return False
        return all(self.pure(child, module) for child in ast.iter_child_nodes(node))

    def _alive(self, node: ast.AST, module: Module) -> bool:
        """Whether it is a name of what the user's own code has made, or of what is used up: to operate on such an
        object runs code of its class.
        """
        chain = chain_of(node)
        if chain is None:
            return False
        key = (module.path, chain)
        if key not in self._lives:
            self._lives[key] = False  # one that leads to itself
            self._lives[key] = any(
                self._lives_on(getattr(statement.node, "value", None), owner)
                for owner, statement in self._world.definitions(module, chain)
                if isinstance(statement.node, ast.Assign | ast.AnnAssign)
            )
        return self._lives[key]

    def _lives_on(self, value: ast.expr | None, module: Module) -> bool:
        if isinstance(value, ast.GeneratorExp):
            return True
        if not isinstance(value, ast.Call):
            return value is not None and self._alive(value, module)
        chain = chain_of(value.func)
        if chain is None:
            return False
        if len(chain) == 1 and chain[0] in _USED_UP and chain[0] not in module.binders:
            return True
        if (self._world.full_name(module, chain) or "").startswith("itertools."):
            return True
        return bool(self._world.definitions(module, chain)) and not self._is_record(module, chain)

    def _arguments(self, call: ast.Call, module: Module) -> bool:
        given = [*call.args, *(each.value for each in call.keywords)]
        return all(self.pure(each, module) for each in given)

    def _passed(self, call: ast.Call, module: Module) -> bool:
        """Whether what a call runs changes nothing: ``map(f, x)``, ``sorted(x, key=f)``, ``type(n, b, d)``."""
        chain = chain_of(call.func) or ("",)
        full = self._world.full_name(module, chain)
        if full is None and chain[-1] == "type" and len(call.args) > 1:
            return False  # a base may keep a list of its classes
        if any(each.arg in _IMPURE_KEYWORDS for each in call.keywords):
            return False
        given = [*call.args, *(each.value for each in call.keywords)]
        if full is None and (chain[-1] in _KEEPING_BUILTINS or chain[0] in module.binders):
            return True  # what is bound here is a record that keeps what it is given
        if full is not None and (f"{full}.".startswith(_KEEPING) or _is_definition(full)):
            return True
        if any(self._alive(part, module) for each in given for part in _parts(each)):
            return False
        if full is None:
            given = [each.value for each in call.keywords if each.arg == "key"]
            given += call.args[:1] if chain[-1] in _CALLERS else []
            return all(self._runs_harmless(each, module) for each in given)
        return all(self._runs_harmless(each, module) for each in given if self._may_be_called(each, module))

    def _may_be_called(self, passed: ast.expr, module: Module) -> bool:
        """Whether it is a function of the user's, or a method that changes what it is of."""
        if isinstance(passed, ast.Lambda):
            return True
        chain = chain_of(passed)
        if chain is None:
            return False
        found = [statement.node for _, statement in self._world.definitions(module, chain)]
        return any(isinstance(node, _FUNCTIONS) for node in found) or (len(chain) > 1 and chain[-1] in _CHANGING)

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
            if _HOOKS & _bound_in(node) or not self._plain_fields(node, owner, names):
                return False
        return bool(found)

    def _plain_fields(self, node: ast.ClassDef, owner: Module, decorators: list[str]) -> bool:
        """Whether making an object runs nothing for its fields: factories, converters, validators."""
        for each in node.body:
            if isinstance(each, _FUNCTIONS):
                if any(_is_hook_of_field(decorator) for decorator in each.decorator_list):
                    return False
            elif not all(self._plain_field(part, owner) for part in ast.walk(each) if isinstance(part, ast.Call)):
                return False
        own = (
            chain_of(part)
            for each in node.body
            if isinstance(each, ast.AnnAssign)
            for part in ast.walk(each.annotation)
        )
        checked = any(name.startswith("pydantic.") for name in decorators)  # by what the annotations name
        return not (checked and any(chain and self._world.definitions(owner, chain) for chain in own))

    def _plain_field(self, call: ast.Call, module: Module) -> bool:
        hooks = [each.value for each in call.keywords if each.arg in _FIELD_HOOKS]
        if (chain_of(call.func) or ("",))[-1] == "Factory":
            hooks += call.args
        return all(self._runs_harmless(each, module) for each in hooks)

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
    return f"{name}.".startswith(_PURE) and (name.startswith(_PURE_AFTER_ALL) or not name.startswith(_IMPURE))


def _bound_in(node: ast.ClassDef) -> set[str]:
    """The names that a class binds in its body, in whatever way."""
    found: set[str] = set()
    waiting: list[ast.AST] = list(node.body)
    while waiting:
        here = waiting.pop()
        if isinstance(here, (*_FUNCTIONS, ast.ClassDef)):
            found.add(here.name)
            continue
        if isinstance(here, ast.Name) and isinstance(here.ctx, ast.Store):
            found.add(here.id)
        waiting.extend(ast.iter_child_nodes(here))
    return found


def _parts(node: ast.expr) -> list[ast.expr]:
    """A value, and what stands in it where it is written as a container."""
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        return [part for each in node.elts for part in _parts(each)]
    return [node]


def _is_hook_of_field(decorator: ast.expr) -> bool:
    """``@field_validator("x")``, ``@model_validator``, ``@x.validator``, ``@x.default``."""
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    name = (chain_of(called) or ("",))[-1]
    return name in ("default", "converter") or name.endswith("validator")


def _is_definition(name: str) -> bool:
    return name.startswith("runner.") and name.split(".")[-1] in DEFINITIONS


def _is_name(node: ast.expr) -> bool:
    if isinstance(node, ast.Tuple | ast.List):
        return all(map(_is_name, node.elts))
    return isinstance(node, ast.Name)


def _setter(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.attr in ("setter", "getter", "deleter")
