"""The files of a checkpoint that is being made, on rank 0."""

from __future__ import annotations

import shutil
from typing import Any

from runner.errors import RunnerError, StoreError
from runner.record.entries import CheckpointPublished
from runner.train.checkpoint import files as checkpoint_files
from runner.train.checkpoint.published import Checkpoints

#: Users' names come from keyword arguments, so a name with '-' is ours.
RANDOM = "random-states"


class Writer:
    """Rank 0's side of a save. The first error is kept for the end, so that collectives of other ranks stay in step."""

    def __init__(self, checkpoints: Checkpoints, step: int) -> None:
        self._checkpoints, self._step = checkpoints, step
        self._error: Exception | None = None
        self._folder = checkpoints.scratch(step)

    def write(self, name: str, kind: str, state: Any) -> str:
        """One object's file; returns its name."""
        if self._error is None:
            try:
                return checkpoint_files.write(self._folder, name, kind, state)
            except Exception as error:
                self._error = self._explained(error)
        return ""

    def is_same(self, last: CheckpointPublished) -> bool:
        """Whether the files written so far are those of the checkpoint `last`; if so they are removed."""
        if self._error is not None or not self._checkpoints.has_same_files(last, self._folder, besides=f"{RANDOM}.pt"):
            return False
        shutil.rmtree(self._folder, ignore_errors=True)
        return True

    def publish(
        self, content: dict[str, Any], metrics: dict[str, float], best: bool
    ) -> CheckpointPublished | Exception:
        """The published checkpoint, or the error that came in between."""
        if self._error is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            return self._error
        try:
            entry = self._checkpoints.publish(self._step, self._folder, content, metrics, best)
        except Exception as error:
            return self._explained(error)
        try:
            self._checkpoints.prune()
        except (RunnerError, OSError) as error:
            print(f"runner: an old checkpoint could not be removed: {error}", flush=True)
        return entry

    def _explained(self, error: Exception) -> Exception:
        """An error of the operating system as one that says what to do. torch and safetensors raise their own kinds."""
        if isinstance(error, RunnerError):
            return error
        if isinstance(error, OSError | RuntimeError) or type(error).__name__ == "SafetensorError":
            return StoreError(
                f"the checkpoint of step {self._step} cannot be written: {error}",
                allowed=f"room for it at {self._folder.parent} and in the store",
                todo="free space; then `runner resume` goes on from the checkpoint before it",
            )
        return error
