"""By mutation: every edit that changes the rows changes what a result depends on, whatever was edited.

Each statement, constant and file of sample projects is edited, one at a time. The rows are made in a process
of their own; what a result depends on is asked without running anything.
"""

from __future__ import annotations

import ast
import copy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.code.hashing import identify
from runner.code.references import FunctionRef
from tests.unit.code.test_reach import KINDS, write

#: Edited in every test; the others by `make soak`.
SMALL = ("body", "appended", "loop", "registry", "registry of classes", "star", "patched", "import_module", "globals")


class _Edit(ast.NodeTransformer):
    """Makes one edit: the `number`-th that is possible."""

    def __init__(self, number: int) -> None:
        self.number, self.seen = number, 0

    def visit(self, node: ast.AST) -> Any:
        node = self.generic_visit(node)
        for make in (_other_constant, _other_operator, _negated):
            made = make(node)
            if made is not None:
                self.seen += 1
                if self.seen == self.number:
                    return ast.copy_location(made, node)
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef):
            self._without_one(node)
        return node

    def _without_one(self, node: Any) -> None:
        for index, statement in enumerate(list(node.body)):
            if isinstance(statement, ast.Import | ast.ImportFrom):
                continue
            self.seen += 1
            if self.seen == self.number:
                node.body[index] = ast.copy_location(ast.Pass(), statement)


def _other_constant(node: ast.AST) -> ast.AST | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return ast.Constant(node.value + 7)
    return None


def _other_operator(node: ast.AST) -> ast.AST | None:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return ast.BinOp(node.left, ast.Sub(), node.right)
    return None


def _negated(node: ast.AST) -> ast.AST | None:
    if isinstance(node, ast.If):
        return ast.If(ast.UnaryOp(ast.Not(), node.test), node.body, node.orelse)
    return None


def edits(text: str) -> Iterator[str]:
    """The text with each possible edit."""
    tree = ast.parse(text)
    number = 1
    while True:
        edit = _Edit(number)
        made = edit.visit(copy.deepcopy(tree))
        if edit.seen < number:
            return
        yield ast.unparse(ast.fix_missing_locations(made))
        number += 1


#: Reads folders, and says for each the rows that its `fn` gives in a child that has loaded nothing of it; an empty line
#: if the files or it raise. A process of its own, since one that has loaded as much as that of the tests forks slowly.
MAKER = """
import os, sys
from types import ModuleType
from runner import Dataset, Job, Prep, Train  # the projects import them
sys.dont_write_bytecode = True
told = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

def rows(root):
    os.chdir(root)
    sys.path[:0] = [root, f"{root}/jobs"]
    module = sys.modules["jobs.j"] = ModuleType("jobs.j")
    space = module.__dict__
    space["__file__"] = f"{root}/jobs/j.py"
    with open(f"{root}/jobs/j.py") as file:
        exec(compile(file.read(), f"{root}/jobs/j.py", "exec"), space)
    fn = space["fn"]
    return repr(fn(None)([1]) if isinstance(fn, type) else fn([1], None))

for line in sys.stdin:
    if os.fork() == 0:
        try:
            found = rows(line.rstrip())
        except BaseException:  # whatever an edit breaks; there are no rows then
            found = ""
        print(found, file=told, flush=True)
        os._exit(0)
    os.wait()
"""


@pytest.fixture(scope="module")
def maker() -> Iterator[subprocess.Popen[str]]:
    words = [sys.executable, "-c", MAKER]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True) as process:
        yield process


def rows(root: Path, maker: subprocess.Popen[str]) -> str:
    """What `fn` gives; "" if the files or it raise."""
    assert maker.stdin is not None
    assert maker.stdout is not None
    print(root, file=maker.stdin, flush=True)
    return maker.stdout.readline().rstrip("\n")


def check(root: Path, kind: str, maker: subprocess.Popen[str]) -> int:
    """Edit a project everywhere. Returns how many edits changed the rows."""
    files = {**KINDS[kind]}
    write(root, files)
    ref = FunctionRef("fn", file="jobs/j.py", module="jobs.j")
    before, given = identify([ref], root).hash, rows(root, maker)
    assert given
    changed = 0
    for name in files:
        path = root / name
        text = path.read_text()
        for edited in edits(text):
            path.write_text(edited)
            same = identify([ref], root).hash == before
            found = rows(root, maker)
            if found and found != given:
                changed += 1
                assert not same, f"{kind}: {name} changed the rows and not the identity:\n{edited}"
        path.write_text(text)
    assert identify([ref], root).hash == before
    return changed


@pytest.mark.parametrize("kind", SMALL)
def test_no_edit_that_changes_rows_is_missed(tmp_path: Path, kind: str, maker: subprocess.Popen[str]) -> None:
    """Of all edits in some projects, each that changes the rows changes the identity."""
    assert check(tmp_path, kind, maker)


@pytest.mark.soak
@pytest.mark.parametrize("kind", KINDS)
def test_no_edit_of_any_project_is_missed(tmp_path: Path, kind: str, maker: subprocess.Popen[str]) -> None:
    """Of all edits in all projects, each that changes the rows changes the identity."""
    assert check(tmp_path, kind, maker)
