"""The same under Ray Train alone, as a script in a ConfigMap that a hand-written RayJob runs."""

from __future__ import annotations

import sys
from typing import Any

import ray.train
from ray.train.torch import TorchConfig, TorchTrainer

FOLDER, URL = "/opt/benchmark", "s3://lake/benchmark/data.parquet"


def loop(config: dict[str, Any]) -> None:
    """On each worker."""
    sys.path.insert(0, FOLDER)
    import pyarrow.parquet as pq
    import s3fs
    import torch
    from train import BATCH, STEPS, make_model, mark, step

    context = ray.train.get_context()
    rank, size = context.get_world_rank(), context.get_world_size()
    model = ray.train.torch.prepare_model(make_model(), move_to_device=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    with s3fs.S3FileSystem().open(URL) as file:
        table = pq.read_table(file)
    x = torch.from_numpy(table["x"].combine_chunks().flatten().to_numpy().reshape(-1, 16).copy())
    y = torch.from_numpy(table["y"].to_numpy().copy())
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))[rank::size]
    for number in range(STEPS):
        index = order[number * BATCH : (number + 1) * BATCH]
        step(model, optimizer, x[index], y[index])
        if number == 0:
            mark(config["mark"], rank)


if __name__ == "__main__":
    ray.init(log_to_driver=False)
    scaling = ray.train.ScalingConfig(num_workers=2, use_gpu=True)
    TorchTrainer(
        loop, train_loop_config={"mark": sys.argv[1]}, scaling_config=scaling, torch_config=TorchConfig(backend="gloo")
    ).fit()
