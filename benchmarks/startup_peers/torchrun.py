"""`torchrun --nproc-per-node 2 torchrun.py`: the loop with DDP."""

from __future__ import annotations

import os

import torch.distributed as dist
from model import make_model, make_optimizer, mark_first_step, plain_batches, step
from torch.nn.parallel import DistributedDataParallel

dist.init_process_group("gloo")
model = DistributedDataParallel(make_model())
optimizer = make_optimizer(model)
for x, y in plain_batches(os.environ["STARTUP_DATA"], dist.get_rank(), dist.get_world_size()):
    step(model, optimizer, x, y)
    mark_first_step(dist.get_rank())
dist.destroy_process_group()
