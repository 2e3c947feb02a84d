"""The order of samples, and batches in that order, from manifest to tensor."""

from runner.data.stream.batch import Batch
from runner.data.stream.quarantine import merged
from runner.data.stream.stats import Stats
from runner.data.stream.stream import Stream

__all__ = ["Batch", "Stats", "Stream", "merged"]
