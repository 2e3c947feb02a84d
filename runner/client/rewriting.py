"""The job that writes data anew: one preparation that changes no value."""

from __future__ import annotations

from collections.abc import Sequence

from runner.client.sources import Named
from runner.code.references import FunctionRef
from runner.prep.same import REFERENCE
from runner.spec import Job, Prep

STAGE = "rewrite"
_NAME, _MODULE = REFERENCE


def rewrite_job(data: Named, name: str, columns: Sequence[str] | None = None, workers: int = 1) -> Job:
    """A job that publishes `data` as the dataset `name`, in the encoding of all published data.

    Args:
        columns: the columns to take; None: all.
        workers: processes.

    Raises:
        SpecError: a name that no dataset can have, or a storage option that is a secret.
    """
    fn = FunctionRef(_NAME, module=_MODULE)  # a module of runner's is in every bundle, and no project has it
    stage = Prep(STAGE, fn=fn, source=data.dataset(columns), sink=name, workers=workers)
    return Job(STAGE, stages=[stage])
