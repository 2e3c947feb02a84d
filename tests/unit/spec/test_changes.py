"""`--set` texts against what a person means by them, and the same changes from Python."""

from __future__ import annotations

import collections
import datetime
import decimal
import pathlib
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Optional, Union

import pytest
import torch

from runner.errors import SpecError
from runner.spec import Dataset, Job, Prep
from runner.spec import changes as spec_changes
from tests.unit.spec import config_kit as kit
from tests.unit.spec.config_kit import Act, Adam, Opt, Sgd


@dataclass
class Inner:
    layers: int = 2
    drop: float = 0.1


class Size(NamedTuple):
    rows: int = 1
    unit: str = "m"


class Plan(dict[str, int]):
    pass


@dataclass
class Fields:
    flag: bool = False
    name: Optional[str] = "x"  # noqa: UP045 - as many configs have it
    n: Optional[int] = 3  # noqa: UP045
    lr: float = 0.1
    k: int = 1
    s: str = "a"
    ints: list[int] = field(default_factory=list)
    f: tuple[float, ...] = ()
    two: tuple[int, str] = (1, "a")
    t: list[str] = field(default_factory=list)
    tags: set[str] = field(default_factory=set)
    nested: list[tuple[int, int]] = field(default_factory=list)
    d: dict[str, int] = field(default_factory=dict)
    by_number: dict[int, Inner] = field(default_factory=lambda: {1: Inner()})
    by_act: dict[Act, float] = field(default_factory=dict)
    act: Act = Act.RELU
    acts: list[Act] = field(default_factory=list)
    level: kit.Level = kit.Level.LOW
    lit: Literal["a", "b", 3] = "a"
    path: pathlib.Path = pathlib.Path(".")
    span: datetime.timedelta = datetime.timedelta(1)
    when: datetime.date = datetime.date(2020, 1, 1)
    price: decimal.Decimal = decimal.Decimal(1)
    blob: bytes = b""
    any: Any = None
    bare: list = field(default_factory=list)  # type: ignore[type-arg]
    inner: Inner = field(default_factory=Inner)
    maybe: Optional[Inner] = None  # noqa: UP045
    layers: list[Inner] = field(default_factory=lambda: [Inner(), Inner()])
    u: Union[int, str] = 1  # noqa: UP007
    v: str | float | None = "1e3"
    opt: Opt = field(default_factory=Opt)
    either: Adam | Sgd = field(default_factory=Adam)
    none_or: Literal[1, None] = 1
    right: kit.Right = kit.Right.READ
    dtype: torch.dtype = torch.float32
    kind: type[Opt] = Opt
    table: Optional[dict[str, list[float]]] = None  # noqa: UP045
    size: Size = field(default_factory=Size)
    named: list[tuple[str, int]] = field(default_factory=list)
    plan: Plan = field(default_factory=lambda: Plan(a=1))
    ordered: dict[str, int] = field(default_factory=lambda: collections.OrderedDict(a=1))
    counts: collections.Counter[str] = field(default_factory=lambda: collections.Counter("aab"))
    missing: collections.defaultdict[str, int] = field(default_factory=lambda: collections.defaultdict(int))
    unknown: "Nowhere" = 1  # type: ignore[name-defined]  # noqa: F821, UP037


def nothing(batch: Any, config: Any) -> Any:
    return batch


def changed(config: Any, text: str) -> Any:
    job = Job("j", config=config, stages=[Prep("p", fn=nothing, source=Dataset(url="x"), sink="o")])
    return spec_changes.apply(job, spec_changes.parse_assignments([text])).config


def at(value: Any, path: str) -> Any:
    for part in path.split("."):
        if isinstance(value, dict):
            value = next(v for k, v in value.items() if part in (str(k), getattr(k, "name", None)))
        else:
            value = value[int(part)] if part.isdigit() else getattr(value, part)
    return value


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("flag=true", True),
        ("flag=True", True),
        ("flag=1", True),
        ("flag=yes", True),
        ("flag=off", False),
        ("name=none", None),
        ("name=null", None),
        ("name=", ""),
        ("name=nobody", "nobody"),
        ("n=none", None),
        ("n=7", 7),
        ("lr=1e-3", 1e-3),
        ("lr=-.5", -0.5),
        ("lr=1_000", 1000.0),
        ("lr=inf", float("inf")),
        ("lr=1", 1.0),
        ("k=1e3", 1000),
        ("k=1.0", 1),
        ("k= 5", 5),
        ("k=123456789012345678901", 123456789012345678901),
        ("s=007", "007"),
        ("s=1e3", "1e3"),
        ("s=a=b", "a=b"),
        ("s=none", "none"),
        ("s='a'", "'a'"),
        ("s= a", " a"),
        ("ints=1,2", [1, 2]),
        ("ints=[1,2]", [1, 2]),
        ("ints=(1, 2)", [1, 2]),
        ("ints=5", [5]),
        ("ints=", []),
        ("ints=[]", []),
        ("f=0.9,0.95", (0.9, 0.95)),
        ("f=(1,0.95)", (1.0, 0.95)),
        ("two=3,b", (3, "b")),
        ("two=[3,4]", (3, "4")),
        ("t=a,b", ["a", "b"]),
        ("t=a", ["a"]),
        ("t=1,2", ["1", "2"]),
        ("t=[1,2]", ["1", "2"]),
        ('t="a,b",c', ["a,b", "c"]),
        ('t=["a,b"]', ["a,b"]),
        ("tags=a,b", {"a", "b"}),
        ("nested=(1,2),(3,4)", [(1, 2), (3, 4)]),
        ("nested=[[1,2]]", [(1, 2)]),
        ('d={"a":1}', {"a": 1}),
        ("d=a:1,b:2", {"a": 1, "b": 2}),
        ("d=", {}),
        ("d.a=3", 3),
        ("by_number.1.layers=5", 5),
        ('by_number.1={"layers": 7}', Inner(7)),
        ("by_act.GELU=0.5", 0.5),
        ("by_act=relu:1", {Act.RELU: 1.0}),
        ("act=gelu", Act.GELU),
        ("act=GELU", Act.GELU),
        ("acts=relu,GELU", [Act.RELU, Act.GELU]),
        ("level=HIGH", kit.Level.HIGH),
        ("level=2", kit.Level.HIGH),
        ("lit=b", "b"),
        ("lit=3", 3),
        ("path=/a b", pathlib.Path("/a b")),
        ("span=90", datetime.timedelta(seconds=90)),
        ("span=1.5h", datetime.timedelta(hours=1.5)),
        ("when=2021-02-03", datetime.date(2021, 2, 3)),
        ("price=1.50", decimal.Decimal("1.50")),
        ("blob=ab", b"ab"),
        ("any=3", 3),
        ("any=true", True),
        ("any=[1]", [1]),
        ("any=(1, 2)", (1, 2)),
        ("any=none", None),
        ("any=x y", "x y"),
        ("bare=1,2", [1, 2]),
        ("bare=a,1", ["a", 1]),
        ("unknown=2", 2),
        ("none_or=none", None),
        ("right=WRITE", kit.Right.WRITE),
        ("right=READ|WRITE", kit.Right.READ | kit.Right.WRITE),
        ("dtype=float16", torch.float16),
        ("kind=Sgd", Sgd),
        ("table.a=1,2", [1.0, 2.0]),
        ("inner.layers=4", 4),
        ('inner={"layers": 9}', Inner(9)),
        ("maybe.layers=4", 4),
        ('maybe={"layers": 4}', Inner(4)),
        ("maybe=none", None),
        ("layers.1.drop=0.5", 0.5),
        ("u=5", 5),
        ("u=x", "x"),
        ("v=5", 5.0),
        ("v=x", "x"),
        ("v=none", None),
        ("opt.lr=1", 1.0),
        ("opt=Sgd", Sgd()),
        ("either=Sgd", Sgd()),
        ("either.betas=0.8,0.9", (0.8, 0.9)),
        ("named=(a,1),(b,2)", [("a", 1), ("b", 2)]),
        ("named=[(a,1)]", [("a", 1)]),
        ("size=5,k", Size(5, "k")),
        ("size=5", Size(5)),
        ('size={"unit": "k"}', Size(1, "k")),
        ("size.rows=5", 5),
        ("size.1=k", "k"),
    ],
)
def test_a_text_is_read_as_the_declared_type(text: str, want: Any) -> None:
    """A text gives the value that a person means, of the declared type; text stays text where text is declared."""
    got = at(changed(Fields(), text), text.partition("=")[0])
    assert kit.same(got, want)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("flag=", "bool"),
        ("flag=maybe", "bool"),
        ("n=", "int"),
        ("k=0x10", "int"),
        ("k=1.5", "int"),
        ("k=1e400", "int"),
        ("ints=a", "list[int]"),
        ("two=1", "tuple[int, str]"),
        ("act=tanh", "'RELU', 'GELU'"),
        ("lit=c", "'a', 'b', 3"),
        ("d=a", "dict[str, int]"),
        ("d.a=x", "int"),
        ("un=4", "did you mean 'u'"),
        ("inner.layer=4", "'layers', 'drop'"),
        ('inner={"layer": 9}', "'layers', 'drop'"),
        ("layers.2.drop=1", "an index from 0 to 1"),
        ("opt=Nesterov", "Opt"),
        ("when=soon", "date"),
        ("dtype=nn", "dtype"),
        ("kind=int", "Opt"),
        ("k.x=1", "has no 'x'"),
        ("two.²=1", "an index from 0 to 1"),
        ("size.row=1", "did you mean 'rows'"),
        ("size=1,k,2", "Size"),
        ('size={"row": 1}', "Size"),
    ],
)
def test_a_text_that_does_not_fit_is_refused(text: str, words: str) -> None:
    """The error shows what was written and names what is allowed."""
    with pytest.raises(SpecError) as caught:
        changed(Fields(), text)
    assert text in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "config",
    [
        kit.Plain(1),
        kit.Tight(value=1),
        kit.Model(value=1),
        kit.FrozenModel(value=1),
        kit.Strict(value=1),
        kit.Attrs(value=1),
        kit.FrozenAttrs(value=1),
    ],
    ids=lambda config: type(config).__name__,
)
def test_every_kind_of_config_can_be_changed(config: Any) -> None:
    """A field of a dataclass, of a pydantic model and of an attrs class changes in a copy, and nothing else does."""
    before = kit.through_fields(config)
    after = changed(config, "value=[1, 2]")
    assert type(after) is type(config)
    assert after.value == [1, 2]
    assert config.value == 1
    assert kit.through_fields(after) == {**before, "value": [1, 2]}


def test_what_follows_from_a_field_is_made_anew() -> None:
    """`__post_init__` sees the changed field, so that computed fields agree with it; those cannot be set."""
    made = changed(kit.Heads(), "heads=8")
    assert (made.heads, made.head_dim) == (8, 8)
    with pytest.raises(SpecError, match="head_dim"):
        changed(kit.Heads(), "head_dim=3")


@pytest.mark.parametrize(("config", "text"), [(kit.Minutes(), "value=1"), (kit.Scaled(), "value=1")])
def test_no_other_field_changes_on_the_way(config: Any, text: str) -> None:
    """A class that changes a field each time it is made is refused: it would change more than what was asked for."""
    with pytest.raises(SpecError, match="each time a (Minutes|Scaled) is made"):
        changed(config, text)


def test_validators_of_the_user_have_their_say() -> None:
    """A constraint of a pydantic model holds for what --set gives, and is told."""
    for config in (kit.Model(), kit.Strict()):
        with pytest.raises(SpecError, match="greater than 0"):
            changed(config, "lr=-1")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"k": "x"}, "k='x'"),
        ({"k": 1.5}, "k=1.5"),
        ({"inner.layers": "x"}, "changes={'inner.layers': 'x'}"),
        ({"kk": 1}, "kk=1"),
    ],
)
def test_python_names_its_argument(changes: dict[str, Any], words: str) -> None:
    """An error of a change from Python shows it as it was written there, not as an option of the command line."""
    job = Job("j", config=Fields(), stages=[Prep("p", fn=nothing, source=Dataset(url="x"), sink="o")])
    with pytest.raises(SpecError) as caught:
        spec_changes.apply(job, changes)
    assert words in str(caught.value)
    assert "--set" not in str(caught.value)


def test_a_string_of_python_is_meant_as_it_is() -> None:
    """From Python a string in a field of text stays what it is, and a list does for a tuple."""
    job = Job("j", config=Fields(), stages=[Prep("p", fn=nothing, source=Dataset(url="x"), sink="o")])
    made = spec_changes.apply(job, {"name": "none", "any": "3", "f": [1, 0.5], "k": "7", "act": "gelu"}).config
    assert kit.same((made.name, made.any, made.f, made.k, made.act), ("none", "3", (1.0, 0.5), 7, Act.GELU))


@pytest.mark.parametrize("text", ["plan.b=2", "ordered.b=2", "counts.b=2", "missing.b=2", "size.rows=2"])
def test_a_container_stays_of_its_class(text: str) -> None:
    """A changed entry leaves the container what it was: an ordered dict, a counter, a named tuple, a class of yours."""
    before, name = Fields(), text.partition(".")[0]
    after = changed(before, text)
    assert type(getattr(after, name)) is type(getattr(before, name))
    assert getattr(after, name) != getattr(before, name)
    assert getattr(before, name) == getattr(Fields(), name)
    if name == "missing":
        assert after.missing.default_factory is int


def test_several_fields_are_read_as_each_of_them_alone() -> None:
    """A whole number in a field of fractions is a fraction, also where several fields are given together."""
    for text in ('inner={"drop": 1}', "inner.drop=1", 'by_number.1={"drop": 1}'):
        made = changed(Fields(), text)
        assert kit.same((made.inner if "inner" in text else made.by_number[1]).drop, 1.0)


def test_a_job_without_a_config_is_told_how_to_have_one() -> None:
    """There is no config to look at: the error says where one is given."""
    job = Job("j", stages=[Prep("p", fn=len, source="a", sink="b")])
    with pytest.raises(SpecError) as caught:
        spec_changes.apply(job, {"epochs": 2})
    assert "Job(config=" in caught.value.todo
