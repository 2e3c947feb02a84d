"""What becomes of a stage's batches between the stream and the function: transformed here, or by helpers ahead."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from runner.data.stream import Batch, Stream
from runner.spec import Train
from runner.train.feeding.helpers import Helpers, Launcher
from runner.train.feeding.transform import BatchTransform, with_columns
from runner.train.feeding.window import PER_HELPER, Window
from runner.worker.scope import Scope


class Feeding:
    """The transform of one rank's batches.

    Args:
        launcher: of the helpers that do it; None: this process does.
    """

    def __init__(self, stage: Train, scope: Scope, launcher: Launcher | None) -> None:
        self._where = f"Train '{stage.name}', transform"
        self._helpers = None if launcher is None else Helpers(launcher, self._where)
        self._stage, self._scope = stage, scope
        self._here: BatchTransform | None = None

    @property
    def is_ahead(self) -> bool:
        """Whether batches are transformed when they come from their stream."""
        return self._helpers is not None

    def attach(self, stream: Stream) -> None:
        """Have the helpers transform the batches of a stream, ahead of its consumer; one of numpy's arrays. They decode
        its pictures, sounds and clips, too."""
        if self._helpers is not None:
            decoding = stream.hand_over_decoding()
            stream.pass_through(Window(self._helpers.submit, PER_HELPER * self._helpers.count, decoding))

    def finished(self, read: Iterator[Batch], waited: Callable[[float], None]) -> Iterator[Batch]:
        """The batches of such a stream as tensors; what is not transformed yet is transformed here.

        Args:
            waited: is told for how many seconds the consumer was kept by it.
        """
        for batch in read:
            begun = time.perf_counter()
            columns = dict(batch) if self._helpers is not None else self._transform(batch)
            made = with_columns(batch, columns)
            waited(time.perf_counter() - begun)
            yield made

    @property
    def _transform(self) -> BatchTransform:
        if self._here is None:
            self._here = BatchTransform(self._stage, self._scope.config, inline=self._scope.inline)
        return self._here

    def close(self) -> None:
        """End the helpers."""
        if self._helpers is not None:
            self._helpers.close()
