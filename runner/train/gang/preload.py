"""What a rank imports before the user's code runs; the gang's server imports this module and forks ranks from itself.

Nothing here may run an operation of torch: a fork does not take the threads of OpenMP along.
"""

from __future__ import annotations

import atexit
import gc
import os

import fsspec.implementations.local
import numpy as np
import pyarrow as pa
import safetensors.torch
import torch
import torch._dynamo  # loaded by the first optimizer and by the first DDP; takes as long as torch itself
import torch.distributed
import torch.distributed.fsdp
import torch.nn.parallel
import torch.utils.serialization

from runner.train import rank

__all__ = ["fsspec", "rank", "safetensors", "torch"]

# pyarrow imports pandas, where there is one, at the first of these
pa.array(np.zeros(1)).to_numpy(zero_copy_only=False)
gc.collect()
gc.freeze()  # so that a collection in a rank does not write to, and thereby copy, the pages it shares
atexit.register(os._exit, 0)  # the server only: taking torch down in order costs time and prints words about leaks
