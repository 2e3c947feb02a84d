from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any

import pytest

from runner import Cluster, Dataset, Group, Job, Prep, Train
from runner.errors import SpecError
from runner.spec.changes import apply, parse_assignments


def transform(batch: Any, config: Any) -> Any:
    return batch


def train(ctx: Any, config: Any) -> None:
    return None


def yields(ctx: Any, config: Any) -> Any:
    yield ctx


async def waits(ctx: Any, config: Any) -> None:
    return None


class Waits:
    async def __call__(self, ctx: Any, config: Any) -> None:
        return None


@dataclass(frozen=True)
class Optimizer:
    lr: float = 0.1
    betas: tuple[float, float] = (0.9, 0.99)


@dataclass(frozen=True)
class Config:
    layers: int = 4
    name: str = "x"
    fast: bool = False
    limit: int | None = None
    optimizer: Optimizer = Optimizer()


def prep(**fields: Any) -> Prep:
    return Prep(**{"name": "tokens", "fn": transform, "source": "text", "sink": "tokens", **fields})


def gang(**fields: Any) -> Train:
    return Train(**{"name": "train", "fn": train, "data": {"train": "tokens"}, **fields})


def job(**fields: Any) -> Job:
    return Job(**{"name": "tiny", "stages": [prep(), gang()], "config": Config(), **fields})


BAD = {
    "a misspelt field": (lambda: prep(worker=2), "did you mean 'workers'"),
    "a missing field": (lambda: Train("train"), "fn"),  # type: ignore[call-arg]
    "a name that is too long": (lambda: prep(name="a-very-long-stage-name"), "at most 14 characters"),
    "a name with odd characters": (lambda: prep(name="Tok ens!"), "'tok-ens' would do"),
    "no workers": (lambda: prep(workers=0), "a whole number from 1"),
    "workers that are no number": (lambda: prep(workers="2"), "a whole number"),
    "a function that yields": (lambda: gang(fn=yields), "a function without `yield`"),
    "a function that waits": (lambda: gang(fn=functools.partial(waits, config=None)), "a function without `async`"),
    "an object whose call waits": (lambda: gang(fn=Waits()), "a function without `async`"),
    "a function that is none": (lambda: prep(fn="transform"), "a function"),
    "an unknown batch format": (lambda: prep(batch_format="arow"), "did you mean 'arrow'"),
    "a dataset transform without an order": (lambda: prep(batch_format="dataset"), "sort_by"),
    "an order without a dataset transform": (lambda: prep(sort_by=("a",)), "batch_format='dataset'"),
    "several sources of a batch transform": (lambda: prep(source={"a": "x", "b": "y"}), "one dataset"),
    "uses as a string": (lambda: prep(uses="lr"), "('lr',)"),
    "data that is no mapping": (lambda: gang(data=["a"]), "a mapping such as"),
    "best without a direction": (lambda: gang(best=("loss", "smallest")), "'min', 'max'"),
    "a negative timeout": (lambda: gang(timeout_s=-1), "a number from"),
    "a place for a transform that is none": (lambda: gang(on_data="cpu"), "give transform="),
    "workers for a transform that is none": (lambda: gang(data_workers=2), "give transform="),
    "a transform that is no function": (lambda: gang(transform="f"), "a function (batch, config) or (batch)"),
    "a transform that yields": (lambda: gang(transform=yields), "a function without `yield`"),
    "a transform of no data": (lambda: gang(transform=transform, data={}), "the loader of your own"),
    "workers for a transform in the rank": (lambda: gang(transform=transform, data_workers=2), "say on_data='cpu'"),
    "a place that is no name": (lambda: gang(transform=transform, on_data=True), "the name of a group"),
    "fewer data workers than ranks": (
        lambda: gang(transform=transform, on_data="cpu", workers=4, data_workers=3), "each of the 4 ranks"),
    "no data workers": (lambda: gang(transform=transform, on_data="cpu", data_workers=0), "a whole number from 1"),
    "two stages of one name": (lambda: job(stages=[prep(), prep(sink="other")]), "different names"),
    "two stages of one folder": (lambda: job(stages=[prep(name="a_b"), prep(name="A-b", sink="o")]), "two 'a_b'"),
    "no stages": (lambda: job(stages=[]), "at least one"),
    "a stage without its list": (lambda: job(stages=prep()), "write stages=[...]"),
    "a config's class": (lambda: job(config=Config), "config=Config()"),
    "a path as a source": (lambda: prep(source="s3://lake/a.parquet"), "write Dataset(url='s3://lake/a.parquet')"),
    "a glob as data": (lambda: gang(data={"train": "*.parquet"}), "write Dataset(url='*.parquet')"),
    "a config that is no dataclass": (lambda: job(config={"lr": 1}), "dataclass"),
    "uses of an unknown field": (lambda: job(stages=[prep(uses=("layer",))]), "did you mean 'layers'"),
    "uses of what is no field": (lambda: job(stages=[prep(uses=("seventy",))]), "without `uses` all count"),
    "uses without a config": (lambda: job(config=None, stages=[prep(uses=("lr",))]), "the config has no fields"),
    "a dataset without place": (lambda: prep(source=Dataset()), "a url or a make"),
    "a dataset with two places": (lambda: Dataset(url="x", make=transform), "not both"),
    "an unknown format": (lambda: Dataset(url="x", format="parkuet"), "did you mean 'parquet'"),
    "an unknown backend": (lambda: Cluster(backend="slurm"), "'local'"),
    "memory in odd units": (lambda: Group(memory="4 gigs"), "'4GiB'"),
    "a group that is none": (lambda: Cluster(groups={"cpu": 4}), "a Group"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_values_are_refused_when_made(name: str) -> None:
    """The error of a wrong definition names the way out."""
    make, words = BAD[name]
    with pytest.raises(SpecError) as caught:
        make()
    assert words in str(caught.value)


def test_a_training_has_helpers_where_its_batches_are_transformed_elsewhere() -> None:
    """None inline; elsewhere as many as it says, and one for each rank if it says none, also when ranks are changed."""
    assert gang(transform=transform).helpers == gang(transform=transform, on_data="inline").helpers == 0
    assert gang(transform=transform, on_data="cpu", data_workers=6, workers=4).helpers == 6
    changed = apply(job(stages=[gang(transform=transform, on_data="cpu")]), {"train.workers": "8"})
    assert changed.stages[0].helpers == 8
    changed = apply(job(stages=[gang(transform=transform)]), {"train.data_workers": "3", "train.on_data": "cpu"})
    assert changed.stages[0].helpers == 3
    assert apply(changed, {"train.on_data": "inline"}).stages[0].helpers == 0
    assert apply(changed, {"train.workers": "5", "train.data_workers": "5"}).stages[0].helpers == 5


def test_values_are_frozen_and_checked_again_when_replaced() -> None:
    """A stage cannot be changed in place, and a changed copy is checked."""
    stage = prep()
    with pytest.raises(AttributeError):
        stage.workers = 3  # type: ignore[misc]
    with pytest.raises(SpecError):
        replace(stage, workers=-1)


def test_sizes_are_bytes() -> None:
    """Memory may be written with decimal and binary units."""
    assert Group(memory="4GiB").memory == 4 << 30
    assert Group(memory="2GB").memory == 2 * 10**9
    assert Group(memory=123).memory == 123


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("layers=8", ("layers",), 8),
        ("config.layers=8", ("layers",), 8),
        ("name=8", ("name",), "8"),
        ("fast=true", ("fast",), True),
        ("limit=5", ("limit",), 5),
        ("limit=none", ("limit",), None),
        ("optimizer.lr=1e-3", ("optimizer", "lr"), 1e-3),
        ("optimizer.betas=0.8,0.9", ("optimizer", "betas"), (0.8, 0.9)),
    ],
)
def test_set_converts_to_the_type_of_the_field(text: str, path: tuple[str, ...], value: Any) -> None:
    """--set gives config fields, nested ones too, values of their declared types."""
    config = apply(job(), parse_assignments([text])).config
    for name in path:
        config = getattr(config, name)
    assert config == value
    assert type(config) is type(value)


def test_set_changes_stages() -> None:
    """--set STAGE.FIELD changes that stage alone."""
    changed = apply(job(), {"train.workers": "8"})
    assert [stage.workers for stage in changed.stages] == [1, 8]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("layer=3", "did you mean 'layers'"),
        ("layers=three", "a value of type int"),
        ("train.worker=3", "did you mean 'workers'"),
        ("optimizer.l=3", "did you mean 'lr'"),
        ("train.workers=0", "a whole number from 1"),
        ("layers", "name=value"),
    ],
)
def test_set_refuses_what_does_not_fit(text: str, words: str) -> None:
    """A wrong --set names the fields or the type that would fit."""
    with pytest.raises(SpecError) as caught:
        apply(job(), parse_assignments([text]))
    assert words in str(caught.value)
