"""Removes every trace of the cluster from the machine; the compiled programs stay in the cache."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable

from runner.errors import InputError
from runner.onebox import build, network, remains
from runner.onebox.places import ROOT
from runner.onebox.processes import kill, running
from runner.onebox.up import check_machine


def down(say: Callable[[str], None]) -> None:
    """End and remove everything, whatever state it is in, and raise if something is left."""
    check_machine()
    if not ROOT.exists() and not remains.processes():
        say("there is no one-machine cluster here")
        return
    ROOT.mkdir(parents=True, exist_ok=True)
    with build.locked(ROOT / ".lock"):
        _stop_kubelet()
        remains.end_everything()
        remains.unmount()
        network.remove_bridge()
        network.remove_chains()
        remains.remove_cgroups()
        remains.remove_shared()
        network.forget()
        shutil.rmtree(ROOT)
    if left := remains.remains():
        raise InputError("something is left: " + "; ".join(left[:10]), todo="say `down` once more")
    say("everything is removed")


def _stop_kubelet() -> None:
    """The kubelet goes first, for it starts again what ends."""
    if pid := running("kubelet"):
        kill(pid, signal.SIGKILL)
