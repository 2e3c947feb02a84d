"""This machine, with plain processes. A Ray is started only for stages that use Ray Data."""

from runner import Cluster, Group

cluster = Cluster(backend="local", groups={"cpu": Group(cpu=1), "gpu": Group(cpu=1)})
