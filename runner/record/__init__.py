"""A run in its bundle: paths, log, index, logs and metrics, receipt. Read and written here; nothing is started."""

from runner.record.bundle import Bundle
from runner.record.history import RunState, StageView, View, fold

__all__ = ["Bundle", "RunState", "StageView", "View", "fold"]
