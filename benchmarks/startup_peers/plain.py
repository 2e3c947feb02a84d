"""`python plain.py`: the loop without anything around it."""

from __future__ import annotations

import os

from model import make_model, make_optimizer, mark_first_step, plain_batches, step

model = make_model()
optimizer = make_optimizer(model)
for x, y in plain_batches(os.environ["STARTUP_DATA"], 0, 1):
    step(model, optimizer, x, y)
    mark_first_step(0)
