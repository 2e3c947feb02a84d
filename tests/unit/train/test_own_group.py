"""A script's own setting up of torch.distributed, inside a train function."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator

import pytest
import torch.distributed as dist

from runner.errors import SpecError
from runner.train import kept_group


@pytest.fixture
def _group() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("_group")
def test_a_group_that_is_there_is_kept() -> None:
    """To set the whole group up or take it down does nothing; smaller groups come and go; later all is as before."""
    before = dist.init_process_group, dist.destroy_process_group
    with kept_group.kept():
        dist.init_process_group("gloo")
        dist.init_process_group(backend="gloo", world_size=1, rank=0)
        own = dist.new_group([0])
        dist.destroy_process_group(own)
        with pytest.raises(ValueError):
            dist.get_backend(own)
        dist.destroy_process_group()
        assert dist.is_initialized()
    assert (dist.init_process_group, dist.destroy_process_group) == before


@pytest.mark.usefixtures("_group")
def test_a_group_is_kept_whatever_the_script_calls_the_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that a module took before by ``from torch.distributed import ... as ...`` do nothing as well."""
    script = types.ModuleType("script")
    exec("from torch.distributed import init_process_group, destroy_process_group as end", vars(script))
    monkeypatch.setitem(sys.modules, "script", script)
    before = dict(vars(script))
    with kept_group.kept():
        script.init_process_group("gloo")
        script.end()
        assert dist.is_initialized()
    assert vars(script) == before


@pytest.mark.usefixtures("_group")
def test_another_group_is_refused() -> None:
    """A script that asks for other ranks, or for GPUs that are not there, is told what there is."""
    with kept_group.kept():
        with pytest.raises(SpecError, match="rank 0 of 1, 'gloo'"):
            dist.init_process_group("gloo", world_size=4, rank=0)
        with pytest.raises(SpecError, match="no GPU"):
            dist.init_process_group("nccl")


def test_without_a_group_a_script_sets_up_its_own() -> None:
    """One rank alone has no group: there the script's call is what it always is."""
    with kept_group.kept():
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
        assert dist.is_initialized()
        dist.destroy_process_group()
        assert not dist.is_initialized()
