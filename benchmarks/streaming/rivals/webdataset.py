"""WebDataset on tar files, shards shuffled and a buffer of samples, in a WebLoader with a worker a core.

From S3 by a pipe, as its documentation does: `curl` of a signed address. Options: workers, buffer.
"""

from __future__ import annotations

import random
import shlex
from collections.abc import Iterator
from typing import Any

from benchmarks.streaming.case import Case

ENVIRONMENT = "rivals"


def refuses(case: Case) -> str | None:
    """Tar alone."""
    return None if case.format == "tar" else "reads tar alone"


def shuffles(case: Case) -> bool:
    """Whether the rows come in another order in each epoch."""
    return case.option("buffer", "1") != "0"


def load(case: Case) -> None:
    """webdataset with torch."""
    import torch
    import webdataset

    assert webdataset.WebDataset
    torch.set_num_threads(1)


class Reader:
    """A pipeline, begun anew in each epoch."""

    def __init__(self, case: Case) -> None:
        import webdataset as wds

        urls = list(case.files) if case.server is None else [_pipe(case, url) for url in case.files]
        buffer = int(case.option("buffer", str(4 * case.batch)))
        data = wds.WebDataset(urls, shardshuffle=len(urls), detshuffle=False)
        if buffer:
            data = data.shuffle(buffer, rng=random.Random(0))
        data = data.to_tuple("__key__", "jpg").batched(case.batch, collation_fn=_Collate(case), partial=True)
        workers = int(case.option("workers", str(case.cores)))
        self.loader = wds.WebLoader(
            data, batch_size=None, num_workers=workers, persistent_workers=workers > 0, prefetch_factor=4
        )

    def epoch(self, number: int) -> Iterator[tuple[Any, list[Any]]]:
        """All rows."""
        yield from self.loader


class _Collate:
    """(key, JPEG) to (ids, [JPEGs or crops])."""

    def __init__(self, case: Case) -> None:
        self.case = case

    def __call__(self, samples: list[tuple[str, bytes]]) -> tuple[Any, list[Any]]:
        import numpy as np

        values: Any = [value for _, value in samples]
        if self.case.decode:
            from benchmarks.streaming.images import crops

            values = crops(values)
        return np.array([int(key) for key, _ in samples]), [values]


def _pipe(case: Case, url: str) -> str:
    import boto3
    from botocore.config import Config

    assert case.server
    bucket, _, key = url.removeprefix("s3://").partition("/")
    client = boto3.client("s3", endpoint_url=case.server.endpoint, config=Config(signature_version="s3v4"))
    address = client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": key})
    return f"pipe:curl --silent --fail {shlex.quote(address)}"
