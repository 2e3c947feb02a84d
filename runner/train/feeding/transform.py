"""Calls of the user's transform: a batch of arrays in, a dict of columns out, the same wherever it is called."""

from __future__ import annotations

import bdb
import contextlib
import hashlib
import inspect
import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from runner.code.references import resolve, user_line, user_trace
from runner.data.stream import Batch
from runner.data.stream.batch import as_torch
from runner.data.stream.steps import Ready
from runner.errors import DataError, RunnerError, UserCodeError
from runner.spec import Train
from runner.spec.calls import takes_config


class BatchTransform:
    """The stage's `transform`, ready to be called. A class is made here, once.

    Global random generators are seeded by the batch, and an operation of torch has one thread, so that a batch becomes
    the same in a rank and on any helper.

    Args:
        stage: its transform may be a reference.
        config: the job's config.
        inline: the process is the user's own, who gets the very exceptions.

    Raises:
        UserCodeError: the class cannot be made, or the code cannot be loaded.
    """

    def __init__(self, stage: Train, config: Any, *, inline: bool = False) -> None:
        self._seed, self._inline = stage.seed, inline
        self.where = f"Train '{stage.name}', transform"
        function = resolve(stage.transform)
        made = inspect.isclass(function)
        self._fn = self._made(function, config) if made else function
        self._more = (config,) if not made and takes_config(function, self.where) else ()

    def _made(self, cls: Any, config: Any) -> Any:
        try:
            return cls(config)
        except Exception as error:
            if self._inline or isinstance(error, RunnerError):
                raise
            message = f"{self.where}: {user_line(error)} when {cls.__name__}(config) was made"
            raise UserCodeError(message, trace=user_trace(error)) from None

    def __call__(self, batch: Batch) -> dict[str, Any]:
        """The columns that the transform makes of a batch of numpy's arrays.

        Raises:
            UserCodeError: it raised (inline: what it raised).
            DataError: it returned no columns, or an array that no tensor can be.
        """
        with self._alike(batch):
            try:
                returned = self._fn(batch, *self._more)
            except (RunnerError, bdb.BdbQuit):
                raise
            except Exception as error:
                if self._inline:
                    error.add_note(f"in {self.where}, {place_of(batch)}")
                    raise
                message = f"{self.where}: {user_line(error)} at {place_of(batch)}"
                raise UserCodeError(message, trace=user_trace(error)) from None
        if not isinstance(returned, Mapping) or not all(isinstance(name, str) for name in returned):
            names = f" with the keys {list(returned)}"[:200] if isinstance(returned, Mapping) else ""
            raise DataError(
                f"it returned a {type(returned).__name__}{names} for {place_of(batch)}",
                allowed="a dict of columns: name -> numpy array, tensor, or list",
                todo="return the batch, or a dict",
                where=self.where,
            )
        self._check_arrays(returned)
        return {name: _alone(value) for name, value in returned.items()}

    def _check_arrays(self, columns: Mapping[str, Any]) -> None:
        """Raise DataError for an array that no tensor can be."""
        arrays = {name: value for name, value in columns.items() if isinstance(value, np.ndarray)}
        wrong = [f"column '{name}' of {one.dtype}" for name, one in arrays.items() if not _is_numbers(one)]
        masked = [name for name, one in arrays.items() if isinstance(one, np.ma.MaskedArray)]
        wrong += [f"column '{name}', a masked array" for name in masked]
        if wrong:
            raise DataError(
                f"it returned {', '.join(wrong)}",
                allowed="arrays of numbers or booleans; text and objects in lists",
                todo="return `list(values)`, or make numbers of them (`masked.filled(...)`)",
                where=self.where,
            )

    @contextlib.contextmanager
    def _alike(self, batch: Batch) -> Iterator[None]:
        """What is global while the transform runs, and was otherwise before."""
        threads = torch.get_num_threads()
        states = random.getstate(), np.random.get_state(), torch.get_rng_state()
        told = hashlib.sha256(self._seed.to_bytes(8, "little") + np.ascontiguousarray(batch.positions).tobytes())
        seed = int.from_bytes(told.digest()[:8], "little") >> 1
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.default_generator.manual_seed(seed)
        if threads != 1:
            torch.set_num_threads(1)
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
            torch.set_rng_state(states[2])
            if threads != 1:
                torch.set_num_threads(threads)


def _is_numbers(array: np.ndarray) -> bool:
    """Whether a tensor can be made of an array: not of long doubles."""
    return array.dtype.kind in "biu" or array.dtype.char in "efdFD"


def _alone(value: Any) -> Any:
    """A column as it comes from a helper, wherever it was made: arrays as tensors can be made of them (a mirrored
    picture, say, is a view that goes backwards) and can be written; tensors without what they were computed from.
    """
    if isinstance(value, list):
        return [_alone(one) if isinstance(one, np.ndarray | torch.Tensor) else one for one in value]
    if isinstance(value, torch.Tensor):
        return value.detach() if value.requires_grad else value
    if not isinstance(value, np.ndarray) or not _is_numbers(value):
        return value
    native = value.astype(value.dtype.newbyteorder("="), copy=False)
    is_odd = any(stride < 0 or stride % native.itemsize for stride in native.strides)
    return native.copy() if is_odd or not native.flags.writeable else native


def with_columns(batch: Batch, columns: dict[str, Any]) -> Batch:
    """The batch with what a transform has made of its columns, as tensors."""
    made = Batch(columns)
    made.positions, made.mask, made.sources = batch.positions, batch.mask, batch.sources
    made.weight, made.epoch = batch.weight, batch.epoch
    return as_torch(made)


def place_of(batch: Batch | Ready) -> str:
    """Where a batch stands in the order, in words."""
    positions = np.asarray(batch.positions)
    if not len(positions):
        return f"an empty batch of epoch {batch.epoch}"
    return f"the batch of positions {int(positions.min()):,} to {int(positions.max()):,}, epoch {batch.epoch}"
