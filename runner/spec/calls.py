"""How the functions of a job are called, where that follows from their signatures."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from runner.errors import SpecError

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def takes_config(function: Callable[..., Any], where: str) -> bool:
    """Whether a transform of batches is called as ``transform(batch, config)``, and not as ``transform(batch)``.

    It is where the second parameter has no default, or is called `config`.

    Raises:
        SpecError: it can be called in neither way.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # what is written in C may have none
        return False
    first = [each for each in signature.parameters.values() if each.kind in _POSITIONAL][:2]
    config = len(first) == 2 and (first[1].default is inspect.Parameter.empty or first[1].name == "config")
    try:
        signature.bind(*([None, None] if config else [None]))
    except TypeError as error:
        shown = f"{getattr(function, '__name__', repr(function))}{signature}"
        allowed = "a function of (batch, config) or (batch)"
        raise SpecError(f"{shown}: {error}", allowed=allowed, todo="change it", where=where) from None
    return config
