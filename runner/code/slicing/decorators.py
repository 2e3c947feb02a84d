"""Which decorators of the user's keep to themselves: what they decorate counts for nobody who does not use it.

Looked at is what runs when something is decorated, not what runs when it is called later: the body of the decorator,
and, where it is written with arguments, that of the function which it returns.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from runner.code.slicing.syntax import Chain, Module, Statement, chain_of

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_FRESH = (ast.Constant, ast.Dict, ast.List, ast.Set, ast.ListComp, ast.SetComp, ast.DictComp)
#: Give what may be called with a function at once, and change nothing else.
_WRAPPERS = ("functools.wraps", "functools.lru_cache")
#: Change what they are given first.
_CHANGERS = ("functools.update_wrapper",)


class World(Protocol):
    """What is needed to know of other modules: which names lead where."""

    def full_name(self, module: Module, chain: Chain) -> str | None: ...

    def definitions(self, module: Module, chain: Chain) -> list[tuple[Module, Statement]]: ...


@dataclass
class _Scope:
    """The names of a function that is looked at.

    Args:
        module: where it stands.
        known: names that are not the module's.
        inner: the functions that it defines.
        fresh: names of what it has made itself.
    """

    module: Module
    known: set[str]
    inner: dict[str, ast.FunctionDef | ast.AsyncFunctionDef]
    fresh: set[str] = field(default_factory=set)


class Decorators:
    """Tells whether a decorator changes nothing but what it returns.

    Args:
        world: of the modules.
        harmless: whether to call something by its name changes nothing but what it returns.
    """

    def __init__(self, world: World, harmless: Callable[[ast.expr, Module], bool]) -> None:
        self._world, self._harmless = world, harmless
        self._open: set[int] = set()

    def keeps(self, decorator: ast.expr, module: Module) -> bool:
        """Whether to decorate with it changes nothing but what it returns; its arguments are not looked at."""
        calls = 2 if isinstance(decorator, ast.Call) else 1
        chain = chain_of(decorator.func if isinstance(decorator, ast.Call) else decorator)
        found = self._world.definitions(module, chain) if chain is not None else []
        return bool(found) and all(
            isinstance(statement.node, ast.FunctionDef)
            and not statement.node.decorator_list
            and self._function(statement.node, _Scope(owner, set(), {}), calls)
            for owner, statement in found
        )

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef, outer: _Scope, calls: int) -> bool:
        """Whether `calls` calls, each of what the one before has returned, change nothing."""
        if id(node) in self._open or isinstance(node, ast.AsyncFunctionDef):
            return False
        self._open.add(id(node))
        inner = {each.name: each for each in _own(node) if isinstance(each, _FUNCTIONS)}
        bound = {each.id for each in _own(node) if isinstance(each, ast.Name) and not isinstance(each.ctx, ast.Load)}
        given = {each.arg for each in ast.walk(node.args) if isinstance(each, ast.arg)}
        scope = _Scope(outer.module, outer.known | bound | given | inner.keys(), {**outer.inner, **inner})
        scope.fresh = set(inner) | _made_here(node, bound - given)
        kept = all(self._statement(each, scope) for each in node.body)
        kept = kept and (calls == 1 or all(self._returns(each.value, scope, calls) for each in _returned(node)))
        self._open.discard(id(node))
        return kept

    def _returns(self, value: ast.expr | None, scope: _Scope, calls: int) -> bool:
        """Whether what is returned may be called."""
        if isinstance(value, ast.IfExp):
            return self._returns(value.body, scope, calls) and self._returns(value.orelse, scope, calls)
        if isinstance(value, ast.Lambda):
            return self._pure(value.body, scope)
        if isinstance(value, ast.Call):  # what its own function has been decorated with already
            return isinstance(value.func, ast.Name) and value.func.id in scope.inner
        return isinstance(value, ast.Name) and value.id in scope.inner and self._call(value.id, scope, calls - 1)

    def _call(self, name: str, scope: _Scope, calls: int = 1) -> bool:
        return self._function(scope.inner[name], scope, calls)

    # -- statements ----------------------------------------------------------------------------------------------

    def _statement(self, node: ast.stmt, scope: _Scope) -> bool:
        if isinstance(node, _FUNCTIONS):
            given = [*node.args.defaults, *(each for each in node.args.kw_defaults if each is not None)]
            return all(self._pure(each, scope) for each in given) and all(
                self._decorates(each, scope) for each in node.decorator_list
            )
        if isinstance(node, ast.Assign):
            return all(self._target(each, scope) for each in node.targets) and self._pure(node.value, scope)
        if isinstance(node, ast.AnnAssign):
            return self._target(node.target, scope) and (node.value is None or self._pure(node.value, scope))
        if isinstance(node, ast.AugAssign):
            return isinstance(node.target, ast.Name) and node.target.id in scope.fresh and self._pure(node.value, scope)
        if isinstance(node, ast.If):
            return self._pure(node.test, scope) and all(self._statement(e, scope) for e in [*node.body, *node.orelse])
        if isinstance(node, ast.Return | ast.Expr | ast.Raise | ast.Assert):
            return all(self._pure(each, scope) for each in ast.iter_child_nodes(node))
        return isinstance(node, ast.Pass)

    def _target(self, target: ast.expr, scope: _Scope) -> bool:
        """A name of its own, or a part of what it has made itself."""
        if isinstance(target, ast.Name):
            return True
        owner = target.value if isinstance(target, ast.Subscript | ast.Attribute) else None
        return isinstance(owner, ast.Name) and owner.id in scope.fresh

    def _decorates(self, decorator: ast.expr, scope: _Scope) -> bool:
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        chain = chain_of(called)
        if chain is None or chain[0] in scope.known:
            return False
        given = list(ast.iter_child_nodes(decorator))[1:] if isinstance(decorator, ast.Call) else []
        return self._harmless(called, scope.module) and all(self._pure(each, scope) for each in given)

    # -- expressions ---------------------------------------------------------------------------------------------

    def _pure(self, node: ast.AST, scope: _Scope) -> bool:
        if isinstance(node, ast.Lambda):
            return all(self._pure(each, scope) for each in node.args.defaults)
        if isinstance(node, ast.Await | ast.Yield | ast.YieldFrom | ast.NamedExpr):
            return False
        if isinstance(node, ast.Call):
            given = [*node.args, *(each.value for each in node.keywords)]
            return self._calls(node, scope) and all(self._pure(each, scope) for each in given)
        return all(self._pure(child, scope) for child in ast.iter_child_nodes(node))

    def _calls(self, call: ast.Call, scope: _Scope) -> bool:
        chain = chain_of(call.func)
        if chain is None:
            named = chain_of(call.func.func) if isinstance(call.func, ast.Call) else None
            wrapper = named is not None and self._world.full_name(scope.module, named) in _WRAPPERS
            return wrapper and self._pure(call.func, scope)
        if chain[0] in scope.known:
            if len(chain) == 1 and chain[0] in scope.inner:
                return self._call(chain[0], scope)
            return len(chain) == 2 and chain[0] in scope.fresh and chain[0] not in scope.inner
        if self._world.full_name(scope.module, chain) in _CHANGERS:
            return bool(call.args) and isinstance(call.args[0], ast.Name) and call.args[0].id in scope.fresh
        return self._harmless(call.func, scope.module)


def _own(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[ast.AST]:
    """What stands in a function, but not in those that it defines."""
    waiting: list[ast.AST] = list(node.body)
    while waiting:
        here = waiting.pop()
        yield here
        if not isinstance(here, (*_FUNCTIONS, ast.Lambda, ast.ClassDef)):
            waiting.extend(ast.iter_child_nodes(here))


def _returned(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.Return]:
    return [each for each in _own(node) if isinstance(each, ast.Return)]


def _made_here(node: ast.FunctionDef | ast.AsyncFunctionDef, names: set[str]) -> set[str]:
    """The names that only ever stand for values which the function has made."""
    for each in _own(node):
        targets = each.targets if isinstance(each, ast.Assign) else [getattr(each, "target", None)]
        if isinstance(each, ast.Assign | ast.AnnAssign) and isinstance(each.value, _FRESH):
            continue
        if isinstance(each, ast.AugAssign):
            continue
        names = names - {t.id for target in targets if target for t in ast.walk(target) if isinstance(t, ast.Name)}
    return names
