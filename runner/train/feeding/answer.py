"""What a helper does: make itself ready once, then answer one batch after another."""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from runner.code import references
from runner.data.stream import Batch
from runner.data.stream.batch import make_batch
from runner.data.stream.steps import Ready
from runner.errors import DataError
from runner.spec import Train
from runner.train.feeding.parcel import Parcel, pack, unpack
from runner.train.feeding.transform import BatchTransform
from runner.worker import children
from runner.worker.pool.child import redirect
from runner.worker.scope import Scope

if TYPE_CHECKING:
    from runner.data.stream.media.steps import Decoding


class Answers:
    """The transform of a stage in a process of its own.

    Args:
        attach: gives the scope of this process.
        stage: its name.
        writer: a name that no other process of the attempt has, for what the user's code prints.
    """

    def __init__(self, attach: Callable[[], Scope], stage: str, writer: str) -> None:
        self._attach, self._stage, self._writer = attach, stage, writer
        self._begun: BatchTransform | None = None

    @property
    def _transform(self) -> BatchTransform:
        if self._begun is None:
            scope = self._attach()
            root = references.code_root()
            if root is not None:
                os.chdir(root)
            redirect(str(scope.spool(self._stage, "logs", self._writer)))
            torch.set_num_threads(1)
            stage = next(each for each in scope.job.stages if isinstance(each, Train) and each.name == self._stage)
            self._begun = BatchTransform(stage, scope.config)
        return self._begun

    def answer(self, parcel: Parcel) -> list[Any]:
        """The parcel of ("columns", dict), or of ("error", exception) with one that can be rebuilt elsewhere."""
        try:
            with children.ended_on_return():
                transform = self._transform
                columns = transform(batch_of(*unpack(parcel)))
            return packed({name: plain(value) for name, value in columns.items()}, transform.where)
        except BaseException as error:
            return pack(("error", _portable(error)))
        finally:
            sys.stdout.flush()
            sys.stderr.flush()


def batch_of(ready: Ready, decoding: Decoding | None) -> Batch:
    """With the pictures, sounds and clips that a stream would have decoded."""
    columns = ready.columns if decoding is None else decoding.columns_of(ready)
    return make_batch(
        columns, ready.positions, ready.mask, ready.weight, ready.epoch, sources=ready.sources, as_="numpy"
    )


def packed(columns: dict[str, Any], where: str) -> list[Any]:
    """The answer of these columns. Raises DataError for one that cannot travel."""
    try:
        return pack(("columns", columns))
    except Exception as error:
        name = next((name for name, value in columns.items() if not _travels(value)), "")
        raise DataError(
            f"it returned column '{name}', a {type(columns.get(name)).__name__}: {error}",
            allowed="arrays, tensors, and lists of what can be pickled",
            todo="return such values, or say on_data='inline'",
            where=where,
        ) from None


def _travels(value: Any) -> bool:
    try:
        pack(value)
    except Exception:
        return False
    return True


def plain(value: Any) -> Any:
    """A tensor as numpy's array, which travels without a copy; the rank makes tensors of arrays anyway."""
    if isinstance(value, torch.Tensor):
        with contextlib.suppress(TypeError, RuntimeError):  # of a type or layout that numpy has not
            return value.detach().cpu().numpy()
    return value


def _portable(error: BaseException) -> BaseException:
    told = references.as_users(error)
    with contextlib.suppress(Exception):  # one that cannot be pickled: say it in words below
        return pickle.loads(pickle.dumps(told))
    return references.as_users(RuntimeError(str(told)))
