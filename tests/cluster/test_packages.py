"""Packages that a job brings are installed in its machines, and no image is built for them."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from runner import Volume
from runner.client import submit
from runner.kube.client import Kube
from runner.record import RunState
from tests.cluster import kit
from tests.cluster.ends import check_end

pytestmark = pytest.mark.timeout(420)

BRING = """
from runner import Dataset, Job, Prep

def shards():
    import pyarrow as pa
    for shard in range(4):
        yield pa.table({"x": [shard] * 5})

def words(rows, config):
    import humanize, os, time
    import pyarrow as pa
    time.sleep(3)
    print(f"{os.uname().nodename} has {humanize.__file__}")
    return pa.table({"word": [humanize.apnumber(x.as_py()) for x in rows["x"]]})

job = Job("bring", packages=("humanize<5",), stages=[
    Prep("words", fn=words, source=Dataset(make=shards), sink="words", workers=2),
])
"""


def test_machines_have_what_the_job_brings(kube: Kube) -> None:
    """A package that the image has not is there in each machine, from the lock in the bundle."""
    Path("jobs/bring.py").write_text(BRING)
    run = submit.submit("bring", cluster=_with_index(kit.cluster_file()))
    check_end(kube, run, RunState.SUCCEEDED)
    assert "humanize==4." in (run.bundle.lock() or "")
    told = {line.split(" has ")[0].split()[-1] for line in run.logs() if "/packages/" in line}
    assert len(told) == 2, list(run.logs())


def _with_index(cluster: kit.Cluster) -> kit.Cluster:
    """The cluster, whose machines find the package index as this machine does."""
    assert cluster.kubernetes is not None
    names = ("UV_INDEX_URL", "UV_DEFAULT_INDEX", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy")
    found = {name: os.environ[name] for name in names if name in os.environ}
    volumes = cluster.kubernetes.volumes
    bundle = os.environ.get("SSL_CERT_FILE")
    if bundle is not None:
        found["SSL_CERT_FILE"] = "/etc/lake-runner-ssl/" + Path(bundle).name
        volumes += (Volume("/etc/lake-runner-ssl", host_path=str(Path(bundle).resolve().parent), read_only=True),)
    environment = {**cluster.kubernetes.environment, **found}
    changed = dataclasses.replace(cluster.kubernetes, environment=environment, volumes=volumes)
    return dataclasses.replace(cluster, kubernetes=changed)
