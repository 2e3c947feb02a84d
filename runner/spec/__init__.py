"""What a user writes, checked when it is made, and as JSON. No file is read and nothing is started here."""

from runner.spec.cluster import Cluster, Group, Kubernetes, Volume
from runner.spec.job import Dataset, Job, Prep, Stage, Train

__all__ = ["Cluster", "Dataset", "Group", "Job", "Kubernetes", "Prep", "Stage", "Train", "Volume"]
