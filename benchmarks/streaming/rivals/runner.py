"""runner.Stream. Options: as, threads, shuffle (yes or no), and any whole-number argument of Stream."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from benchmarks.streaming.case import Case

ENVIRONMENT = "ours"


def refuses(case: Case) -> str | None:
    """What this version of Stream does not read."""
    from runner import Stream

    if case.format == "tar":
        from runner.data.formats.formats import READERS

        if "tar" not in READERS:
            return "this version reads no tar"
    if case.decode and "decode" not in inspect.signature(Stream).parameters:
        return "this version decodes no images"
    unknown = set(_arguments(case)) - set(inspect.signature(Stream).parameters)
    return f"this version has no {', '.join(sorted(unknown))}" if unknown else None


def shuffles(case: Case) -> bool:
    """Whether the rows come in another order in each epoch."""
    return case.option("shuffle", "yes") == "yes"


def load(case: Case) -> None:
    """runner, torch where its tensors are wanted, and what reads from S3 where that is the source."""
    from runner import Stream  # noqa: F401

    if case.server is not None:
        import s3fs  # noqa: F401

    if case.option("as", "torch") == "torch":
        import torch

        torch.set_num_threads(1)


class Reader:
    """An endless stream, cut at epochs."""

    def __init__(self, case: Case) -> None:
        from runner import Stream

        tar = case.format == "tar"
        self.batch = case.batch
        self.names = ("__key__", "jpg") if tar else ("id", *case.columns)
        self.stream = Stream(
            case.url,
            case.batch,
            columns=list(self.names),
            epochs=1,
            tail="wrap",
            **_arguments(case),
        )

    def state(self, seen: int) -> Any:
        """The place in the order."""
        return self.stream.state_dict()

    def restore(self, state: Any) -> None:
        """Goes there."""
        self.stream.load_state_dict(state)

    def epoch(self, number: int) -> Iterator[tuple[Any, list[Any]]]:
        """The next epoch."""
        left = self.stream.rows
        for batch in self.stream:  # the last batch of an epoch is filled up
            ids, *values = [batch[name] if left >= self.batch else batch[name][:left] for name in self.names]
            left -= self.batch
            yield _numbers(ids), values


def _numbers(ids: Any) -> Any:
    """Numbers as they are, and of the names of a tar's members their numbers."""
    if hasattr(ids, "to_pylist"):
        ids = ids.to_pylist() if str(ids.type) == "string" else ids
    return [int(name) for name in ids] if isinstance(ids, list) else ids


def _arguments(case: Case) -> dict[str, Any]:
    """Arguments of Stream, of the options."""
    found: dict[str, Any] = {"as_": case.option("as", "torch"), "shuffle": case.option("shuffle", "yes") == "yes"}
    if case.decode:
        from runner import Image

        found["decode"] = {"jpg" if case.format == "tar" else "image": Image("RGB", 224, crop="random")}
    for name, value in case.options.items():
        if name not in ("as", "shuffle"):
            found[name] = case.cores if value == "all" else int(value)
    return found
