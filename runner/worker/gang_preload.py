"""What a rank imports before the user's code runs; the gang's server imports this module and forks ranks from itself.

Nothing here may run an operation of torch: a fork does not take the threads of OpenMP along.
"""

from __future__ import annotations

import gc

import torch
import torch._dynamo  # loaded by the first optimizer and by the first DDP: 4 to 5 s, more than torch itself
import torch.distributed
import torch.distributed.fsdp
import torch.nn.parallel

from runner.worker import rank

__all__ = ["rank", "torch"]

gc.collect()
gc.freeze()  # so that a collection in a rank does not write to, and thereby copy, the pages it shares
