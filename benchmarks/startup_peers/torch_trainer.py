"""`python torch_trainer.py`: the loop under Ray Train, as its documentation shows it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import ray.train
from ray.train.torch import TorchTrainer


def loop(config: dict[str, Any]) -> None:
    """On each worker."""
    sys.path.insert(0, config["folder"])
    os.environ["STARTUP_MARK"] = config["mark"]
    from model import make_model, make_optimizer, mark_first_step, plain_batches, step

    context = ray.train.get_context()
    model = ray.train.torch.prepare_model(make_model())
    optimizer = make_optimizer(model)
    for x, y in plain_batches(config["data"], context.get_world_rank(), context.get_world_size()):
        step(model, optimizer, x, y)
        mark_first_step(context.get_world_rank())


if __name__ == "__main__":
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
    config = {
        "folder": str(Path(__file__).parent),
        "mark": os.environ["STARTUP_MARK"],
        "data": os.environ["STARTUP_DATA"],
    }
    scaling = ray.train.ScalingConfig(num_workers=2)
    storage = ray.train.RunConfig(storage_path=os.environ["STARTUP_STORAGE"])
    TorchTrainer(loop, train_loop_config=config, scaling_config=scaling, run_config=storage).fit()
    ray.shutdown()
