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
        from runner.data.formats.formats import FORMATS

        if "tar" not in FORMATS:
            return "this version reads no tar"
    if case.decode and "decode" not in inspect.signature(Stream).parameters:
        return "this version decodes no images"
    unknown = set(_arguments(case)) - set(inspect.signature(Stream).parameters)
    return f"this version has no {', '.join(sorted(unknown))}" if unknown else None


def load(case: Case) -> None:
    """runner, and torch where its tensors are wanted."""
    import runner

    assert runner.Stream
    if case.option("as", "torch") == "torch":
        import torch

        torch.set_num_threads(1)


class Reader:
    """An endless stream, cut at epochs."""

    def __init__(self, case: Case) -> None:
        from runner import Stream

        self.case = case
        self.stream = Stream(
            case.url,
            case.batch,
            columns=["id", *case.columns],
            epochs=1,
            tail="wrap",
            **_arguments(case),
        )

    def epoch(self, number: int) -> Iterator[tuple[Any, list[Any]]]:
        """The next epoch."""
        for batch in self.stream:
            mask = batch.mask if bool(batch.mask.all()) else None
            if mask is None:
                yield batch["id"], [batch[name] for name in self.case.columns]
            else:  # the last batch of an epoch, filled up
                count = int(mask.sum())
                yield batch["id"][:count], [batch[name][:count] for name in self.case.columns]


def _arguments(case: Case) -> dict[str, Any]:
    """Arguments of Stream, of the options."""
    found: dict[str, Any] = {"as_": case.option("as", "torch"), "shuffle": case.option("shuffle", "yes") == "yes"}
    if case.decode:
        from runner import Image

        found["decode"] = {"image": Image("RGB", 224, crop="random")}
    for name, value in case.options.items():
        if name not in ("as", "shuffle"):
            found[name] = case.cores if value == "all" else int(value)
    return found
