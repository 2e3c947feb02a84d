"""The last tests of all: the one-machine cluster survives the loss of everything that runs, and leaves nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.onebox import network, remains
from runner.onebox.places import ROOT
from tests.cluster.conftest import Cluster, onebox

pytestmark = [pytest.mark.soak, pytest.mark.timeout(400, func_only=True)]


@pytest.fixture
def own(cluster: Cluster) -> Cluster:
    """The one-machine cluster, which these tests may break."""
    if not cluster.onebox:
        pytest.skip("this is about the one-machine cluster")
    return cluster


def lose_everything() -> None:
    """What a power cut and a start of the machine leave: files, and nothing that runs."""
    remains.end_everything()
    remains.unmount()
    network.remove_bridge()
    network.remove_chains()
    remains.remove_cgroups()


def test_up_after_a_reboot(own: Cluster) -> None:
    """After a reboot `up` brings the same cluster back: its objects and its bucket's content are there."""
    kept = ROOT / "s3" / "data" / "lake" / "kept"
    kept.write_text("kept")
    own.run("create", "configmap", "kept", "--from-literal=a=b")
    lose_everything()
    onebox("up")
    assert own.run("get", "configmap", "kept", "-o", "jsonpath={.data.a}") == "b"
    assert kept.read_text() == "kept"
    own.run("delete", "configmap", "kept")


def test_down_leaves_nothing(own: Cluster) -> None:
    """After `down` no process (the simulator of nodes among them), mount, bridge, chain, control group or file of the
    cluster is on the machine.
    """
    onebox("kwok", "5")
    onebox("down")
    assert remains.remains() == []
    for left in ("/var/lib/kubelet", "/var/log/pods", "/usr/libexec/kubernetes", "/opt/containerd"):
        assert not Path(left).exists()


def test_down_of_what_died_leaves_nothing(own: Cluster) -> None:
    """`down` after a reboot leaves nothing either, and a second `down` is content."""
    onebox("up", "--no-kueue")
    lose_everything()
    onebox("down")
    assert remains.remains() == []
    assert onebox("down") == ""
