"""Classes of configs as people write them, and values of every kind; they are imported by name."""

from __future__ import annotations

import collections
import datetime
import decimal
import enum
import fractions
import functools
import ipaddress
import math
import pathlib
import random
import re
import types
import uuid
import zoneinfo
from collections.abc import Callable
from dataclasses import InitVar, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, TypeVar

import attr
import attrs
import numpy as np
import pydantic
import torch

if TYPE_CHECKING:
    from collections.abc import Sequence


T = TypeVar("T")


class Act(enum.Enum):
    RELU = "relu"
    GELU = "gelu"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Right(enum.Flag):
    READ = 1
    WRITE = 2


class Word(str):
    """A text of a class of its own."""


class Pair(NamedTuple):
    left: Any
    right: Any


@dataclass
class Fixed:
    """A field that only the class has a value of."""

    x: int = 1
    y: int = field(init=False, default=4)


@dataclass
class Stated:
    """An object that says itself what is in it."""

    x: int = 1
    y: int = 2

    def __getstate__(self) -> dict[str, Any]:
        return {"both": (self.x, self.y)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.x, self.y = state["both"]


@dataclass
class Named(dict):  # type: ignore[type-arg]
    """A dict with fields, one of which is called like what else there is."""

    x: int = 1
    entries: int = 2


class Bag(dict):  # type: ignore[type-arg]
    """A dict whose items are its attributes."""

    def __init__(self, *args: Any, **items: Any) -> None:
        super().__init__(*args, **items)
        self.__dict__ = self


@dataclass(frozen=True)
class Opt:
    lr: float = 0.1


@dataclass(frozen=True)
class Sgd(Opt):
    momentum: Any = 0.9


@dataclass(frozen=True)
class Adam(Opt):
    betas: tuple[float, float] = (0.9, 0.999)


@dataclass
class Box(Generic[T]):
    """Holds one thing of a kind."""

    value: T


@dataclass
class Plain:
    value: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tight:
    value: Any = None
    more: list[Any] = field(default_factory=list)


@dataclass
class Minutes:
    """Its `__post_init__` gives something else when it is done twice."""

    timeout: float = 2.0
    value: Any = None

    def __post_init__(self) -> None:
        self.timeout *= 60


@dataclass
class Scaled:
    scale: InitVar[float] = 2.0
    lr: float = 0.1
    value: Any = None

    def __post_init__(self, scale: float) -> None:
        self.lr *= scale


@dataclass
class Heads:
    dim: int = 64
    heads: int = 4
    head_dim: int = field(init=False)
    kind: ClassVar[str] = "heads"

    def __post_init__(self) -> None:
        self.head_dim = self.dim // self.heads
        self.note = "besides its fields"

    @functools.cached_property
    def lock(self) -> Any:
        import threading

        return threading.Lock()


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow", arbitrary_types_allowed=True)
    lr: float = pydantic.Field(0.1, gt=0)
    value: Any = None
    _hidden: Any = pydantic.PrivateAttr(3)


class FrozenModel(pydantic.BaseModel, frozen=True):
    lr: float = 0.1
    value: Any = None


@pydantic.dataclasses.dataclass
class Strict:
    lr: float = pydantic.Field(0.1, gt=0)
    alias_me: int = pydantic.Field(3, alias="aliasMe")
    value: Any = None


@attrs.define
class Attrs:
    lr: float = 0.1
    _private: int = 3
    value: Any = None


@attrs.frozen(cache_hash=True)
class FrozenAttrs:
    lr: float = 0.1
    value: Any = attrs.field(default=None, eq=False)


@attrs.frozen(cache_hash=True)
class KeptHash:
    """Keeps its hash in a slot."""

    value: Any = None


@attr.s(frozen=True, hash=True, cache_hash=True)
class OldKeptHash:
    """Keeps its hash among its attributes."""

    value: Any = attr.ib(default=None)


class Bare:
    """No dataclass: just an object with attributes."""

    def __init__(self, value: Any) -> None:
        self.value = value


class Counting:
    """It says itself what is to be kept of it."""

    def __init__(self, value: Any) -> None:
        self.value, self.cache = value, object()

    def __getstate__(self) -> Any:
        return {"value": self.value}

    def __setstate__(self, state: Any) -> None:
        self.value, self.cache = state["value"], None


@dataclass
class Loose:
    """Annotations that only a type checker can see."""

    sizes: Sequence[int] = (1, 2)
    value: Any = None


RECORDS: tuple[Callable[[Any], Any], ...] = (
    Plain,
    lambda v: Tight(value=v),
    lambda v: Minutes(value=v),
    lambda v: Scaled(value=v),
    lambda v: Model(value=v, x=v),
    lambda v: FrozenModel(value=v),
    lambda v: Strict(value=v),
    lambda v: Attrs(value=v),
    lambda v: FrozenAttrs(value=v),
    lambda v: Loose(value=v),
    lambda v: Sgd(0.2, momentum=v),
    Bare,
    Counting,
)

LEAVES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2**53 + 1, 2**70, -(2**63), 10**5000, 0.0, -0.0, 1.0, 0.1, 5e-324, 1e308, math.inf,
    -math.inf, math.nan, "", "1", "007", "1e3", "true", "none", "$", "\ud800", "ä\0\n", b"", b"\x00\xff",
    bytearray(b"x"), 1 + 2j, complex(-0.0, math.nan), Act.GELU, Level.HIGH, Right.READ | Right.WRITE, Right(0),
    Word("word"), ..., range(0, 9, 2), slice(None, 3), decimal.Decimal("1.50"), decimal.Decimal("NaN"),
    fractions.Fraction(1, 3), pathlib.Path("/a b/c"), pathlib.PureWindowsPath("c:\\x"), uuid.UUID(int=5),
    datetime.date(2020, 2, 29), datetime.timedelta(-1, 5, 7), datetime.datetime(2020, 1, 2, 3, 4, 5, 6),
    datetime.datetime(2020, 1, 2, tzinfo=datetime.UTC),
    datetime.datetime(2020, 10, 25, 2, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"), fold=1),
    datetime.time(3, tzinfo=datetime.timezone(datetime.timedelta(hours=2), "mine")), re.compile("a.b", re.I),
    ipaddress.ip_address("::1"), np.float64(0.1), np.float32(0.1), np.int64(3), np.bool_(True), np.str_("x"),
    np.str_(""), np.bytes_(b""),
    np.datetime64("2020-01-01"), np.arange(6, dtype=np.int16).reshape(2, 3), np.zeros((0, 3)), np.dtype("float32"),
    torch.float32, torch.device("cuda", 1), torch.Size([2, 3]), torch.tensor([1.5, 2.5], dtype=torch.bfloat16),
    torch.tensor(3), torch.zeros(0, 2), torch.nn.functional.gelu, torch.optim.AdamW, math.sqrt, Act, Opt, int, Pair,
)  # fmt: skip


def value(draw: random.Random, depth: int = 3) -> Any:
    """A value: a leaf, a container of values, or an object with values in its fields."""
    if depth == 0 or draw.random() < 0.3:
        return draw.choice(LEAVES)

    def inner() -> Any:
        return value(draw, depth - 1)

    def key() -> Any:
        found = draw.choice(LEAVES)
        try:
            hash(found)
        except TypeError:
            return "key"
        return found

    several = range(draw.randrange(4))
    makers: tuple[Callable[[], Any], ...] = (
        lambda: [inner() for _ in several],
        lambda: tuple(inner() for _ in several),
        lambda: {key(): inner() for _ in several},
        lambda: {draw.choice("abcd$"): inner() for _ in several},
        lambda: {key() for _ in several},
        lambda: frozenset(key() for _ in several),
        lambda: collections.deque([inner() for _ in several], maxlen=5),
        lambda: collections.OrderedDict((key(), inner()) for _ in several),
        lambda: collections.defaultdict(list, {key(): inner() for _ in several}),
        lambda: collections.Counter({key(): 2 for _ in several}),
        lambda: types.SimpleNamespace(a=inner(), b=inner()),
        lambda: types.MappingProxyType({"a": inner()}),
        lambda: functools.partial(Sgd, momentum=inner()),
        lambda: Bag(a=inner()),
        lambda: Pair(inner(), inner()),
        lambda: draw.choice(RECORDS)(inner()),
    )
    return draw.choice(makers)()


def same(a: Any, b: Any) -> bool:
    """Whether two values are equal, types and all: NaN equals itself, 0.0 is not -0.0, the order of dicts counts."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float | complex) and not isinstance(a, np.generic):
        return repr(a) == repr(b)
    if isinstance(a, np.ndarray | np.generic):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
    if isinstance(a, decimal.Decimal):
        return str(a) == str(b)
    if isinstance(a, set | frozenset):
        return sorted(map(_mark, a)) == sorted(map(_mark, b))
    if isinstance(a, dict | types.MappingProxyType):
        if getattr(a, "default_factory", None) is not getattr(b, "default_factory", None) or len(a) != len(b):
            return False
        return all(same(k, o) and same(v, w) for (k, v), (o, w) in zip(a.items(), b.items(), strict=True))
    if isinstance(a, list | tuple | collections.deque):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, functools.partial):
        return a.func is b.func and same(a.args, b.args) and same(a.keywords, b.keywords)
    if isinstance(a, datetime.datetime | datetime.time):
        return (a.replace(tzinfo=None), a.fold, a.tzinfo) == (b.replace(tzinfo=None), b.fold, b.tzinfo)
    if isinstance(a, pydantic.BaseModel):
        return same(a.__getstate__(), b.__getstate__())
    if isinstance(a, Counting):
        return same(a.value, b.value)
    if isinstance(a, Tight | Attrs | FrozenAttrs):
        return all(same(getattr(a, name), getattr(b, name)) for name in type(a).__slots__ if not name.startswith("_"))
    if hasattr(a, "__dict__") and not isinstance(a, type | types.FunctionType | enum.Enum):
        return same(dict(vars(a)), dict(vars(b)))
    return bool(a == b)


def _mark(part: Any) -> str:
    return f"{type(part).__name__} {hex(part) if isinstance(part, int) else repr(part)}"


def through_fields(config: Any) -> dict[str, Any]:
    """The fields of a config by name."""
    from runner.values import records

    return {name: getattr(config, name) for name in records.names(config)}
