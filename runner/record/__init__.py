"""A run in its bundle: paths, log, index, logs and metrics, receipt. Read and written here; nothing is started."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runner.record.bundle import Bundle
    from runner.record.history import StageView, View, fold
    from runner.record.states import RunState

#: Loaded when they are asked for: a list of runs needs none but the states.
_WHERE = {"Bundle": "bundle", "RunState": "states", "StageView": "history", "View": "history", "fold": "history"}

__all__ = ["Bundle", "RunState", "StageView", "View", "fold"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    globals()[name] = value
    return value
