"""This machine, with a Ray that lives as long as the run: the same driver code as on a Ray cluster."""

from runner import Cluster, Group

cluster = Cluster(backend="ray", groups={"cpu": Group(cpu=1), "gpu": Group(cpu=1)})
