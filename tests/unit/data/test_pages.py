"""The pages about data: what their examples call can be called so."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pyarrow.compute as pc
import pytest

from runner import Audio, Dataset, Image, Mix, Pack, Run, Stream, Video, dataset
from tests import ROOT

PAGES = ("streaming.md", "data.md")
CHECKED = {"Audio", "Dataset", "Image", "Mix", "Pack", "Stream", "Video", "dataset"}


def blocks() -> Iterator[tuple[str, ast.Module]]:
    """The examples in Python of the pages; `...` in place of an argument is none."""
    for page in PAGES:
        text = (ROOT / "docs" / page).read_text()
        for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
            yield page, _Shortened().visit(ast.parse(code))


class _Shortened(ast.NodeTransformer):
    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        return ast.copy_location(ast.Constant(None), node) if node.value is ... else node


def calls(tree: ast.Module) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        name = getattr(getattr(node, "func", None), "attr", None) or getattr(getattr(node, "func", None), "id", None)
        if isinstance(node, ast.Call) and name in CHECKED:
            yield node


def called(function: Any) -> Any:
    """In place of a function that would look at data: its arguments fit."""

    def bound(*arguments: Any, **named: Any) -> str:
        inspect.signature(function).bind(*arguments, **named)
        return "data"

    return bound


def test_examples_call_what_there_is() -> None:
    """Each Dataset, Mix, Pack and decoding on the pages is one that is allowed, and each Stream has such arguments."""
    sources = {"web": "web", "code": "code"}
    names = {
        "Audio": Audio, "Dataset": Dataset, "Image": Image, "Mix": Mix, "Pack": Pack, "Video": Video, "pc": pc,
        "Stream": called(Stream), "runner": SimpleNamespace(Stream=called(Stream), dataset=called(dataset)),
        "rank": 0, "world_size": 1, "url": "lake", "sources": sources, "mix": Mix(dict.fromkeys(sources, 1), sources),
    }  # fmt: skip
    found = 0
    for page, tree in blocks():
        for call in calls(tree):
            try:
                eval(compile(ast.Expression(call), page, "eval"), names)
            except Exception as error:
                pytest.fail(f"{page}: {ast.unparse(call)}: {error}")
            found += 1
    assert found > 30


def test_what_pages_ask_of_streams_and_runs() -> None:
    """An attribute that a page names is there, a method is called, and what is none is not."""
    kinds: dict[str, type] = {"run": Run, "Run": Run, "stream": Stream}
    found = 0
    for page in sorted((ROOT / "docs").glob("*.md")):
        for kind, name, behind in re.findall(r"`(run|Run|stream)\.([a-z_]+)(.)", page.read_text()):
            member = getattr(kinds[kind], name, None)
            assert member is not None or f"    {name}: " in (kinds[kind].__doc__ or ""), f"{page.name}: {kind}.{name}"
            is_method = inspect.isfunction(member)
            assert behind in ("(`" if is_method else "[.`"), f"{page.name}: {kind}.{name}{behind}"
            found += 1
    assert found > 10
