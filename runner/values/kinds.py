"""The kinds of values that `tagged` knows by name: those of Python's library, of numpy and of torch.

Each is known by its exact class, so that no value of another class is taken for one. numpy and torch are imported only
to read such a value back.
"""

from __future__ import annotations

import base64
import collections
import datetime
import decimal
import fractions
import functools
import ipaddress
import pathlib
import re
import types
import uuid
import zoneinfo
from collections.abc import Callable
from typing import Any

from runner.errors import SpecError, brief

#: ``sub(part, step)`` is the JSON of a part of a value; ``back(json)`` is the part again.
Sub = Callable[[Any, str], Any]
Back = Callable[[Any], Any]
Fields = dict[str, Any]

_SEQUENCES = {kind.__name__: kind for kind in (tuple, set, frozenset)}
_TEXTS: dict[str, type] = {
    "decimal": decimal.Decimal, "fraction": fractions.Fraction, "uuid": uuid.UUID, "ipv4": ipaddress.IPv4Address,
    "ipv6": ipaddress.IPv6Address, "ipv4network": ipaddress.IPv4Network, "ipv6network": ipaddress.IPv6Network,
    "posixpath": pathlib.PosixPath, "windowspath": pathlib.WindowsPath, "pureposixpath": pathlib.PurePosixPath,
    "purewindowspath": pathlib.PureWindowsPath, "complex": complex,
}  # fmt: skip
_BYTES = {kind.__name__: kind for kind in (bytes, bytearray)}
_TEXT_OF = {cls: name for name, cls in _TEXTS.items()}
#: Classes of other libraries that are made from their text, by where they say they are defined.
FOREIGN_TEXTS = {
    "torch.dtype": ("torch", lambda torch, text: _dtype(torch, text)),
    "torch.device": ("torch", lambda torch, text: torch.device(text)),
    "pydantic_core._pydantic_core.Url": ("pydantic_core", lambda core, text: core.Url(text)),
    "pydantic_core._pydantic_core.MultiHostUrl": ("pydantic_core", lambda core, text: core.MultiHostUrl(text)),
}


def is_secret(value: Any) -> bool:
    """Whether its class says that it must not be written down."""
    return any(
        base.__module__ == "pydantic.types" and base.__name__.startswith("Secret") for base in type(value).__mro__
    )


def encode(value: Any, sub: Sub) -> tuple[str, Fields] | None:
    """The kind of a value and the JSON of what is in it; None for a value of no known kind."""
    cls = type(value)
    if cls.__name__ in _SEQUENCES and cls is _SEQUENCES[cls.__name__]:
        return cls.__name__, {"items": _items(value, sub)}
    if cls in _TEXT_OF:
        return _TEXT_OF[cls], {"value": str(value)}
    if cls is bytes or cls is bytearray:
        return cls.__name__, {"base64": _base64(bytes(value))}
    writer = _WRITERS.get(cls)
    if writer is not None:
        return writer(value, sub)
    name = f"{cls.__module__}.{cls.__qualname__}"
    if name in FOREIGN_TEXTS:
        return name, {"value": str(value)}
    if cls.__module__ == "numpy" or name == "numpy.dtype":
        return _numpy(value)
    if cls.__module__.startswith("numpy.dtype"):
        return ("numpy.dtype", {"value": value.str}) if _says_all(value) else None
    if name == "torch.Size":
        return name, {"items": list(value)}
    if name == "torch.Tensor":
        return _tensor(value)
    return None


def decode(kind: str, raw: Fields, back: Back) -> Any:
    """The value again.

    Raises:
        SpecError: a newer runner has written a kind that this one does not know.
    """
    if kind in _SEQUENCES:
        return _SEQUENCES[kind](back(part) for part in raw["items"])
    if kind in _TEXTS:
        return _TEXTS[kind](raw["value"])
    if kind in _BYTES:
        return _BYTES[kind](base64.b64decode(raw["base64"]))
    if kind in FOREIGN_TEXTS:
        module, made = FOREIGN_TEXTS[kind]
        return made(__import__(module), raw["value"])
    if kind in _READERS:
        return _READERS[kind](raw, back)
    raise SpecError(f"a value of the kind '{kind}'", todo="read it with the runner that wrote it")


def _items(value: Any, sub: Sub) -> list[Any]:
    """The parts in order; a set has none, so by their JSON: the same set is the same text in every process."""
    if isinstance(value, tuple):
        return [sub(part, f"[{i}]") for i, part in enumerate(value)]
    return sorted((sub(part, "{}") for part in value), key=repr)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


# -- Python's library ------------------------------------------------------------------------------------------------


def _datetime(value: Any, sub: Sub) -> tuple[str, Fields]:
    fields: Fields = {"value": value.replace(tzinfo=None, fold=0).isoformat()}
    if value.tzinfo is not None:
        fields["zone"] = sub(value.tzinfo, ".tzinfo")
    if value.fold:
        fields["fold"] = value.fold
    return type(value).__name__, fields


def _read_datetime(raw: Fields, back: Back) -> Any:
    cls: Any = datetime.datetime if raw["$"] == "datetime" else datetime.time
    made = cls.fromisoformat(raw["value"])
    return made.replace(tzinfo=back(raw.get("zone")), fold=raw.get("fold", 0))


def _timedelta(value: datetime.timedelta, sub: Sub) -> tuple[str, Fields]:
    return "timedelta", {"days": value.days, "seconds": value.seconds, "microseconds": value.microseconds}


def _timezone(value: datetime.timezone, sub: Sub) -> tuple[str, Fields]:
    offset, *name = value.__getinitargs__()  # type: ignore[attr-defined]
    return "timezone", {"offset": sub(offset, ".offset"), "name": name}


def _zone(value: zoneinfo.ZoneInfo, sub: Sub) -> tuple[str, Fields] | None:
    return ("zoneinfo", {"key": value.key}) if value.key else None


def _counted(value: Any, sub: Sub) -> tuple[str, Fields]:
    entries = [[sub(key, f"[key {brief(key)}]"), sub(part, f"[{brief(key)}]")] for key, part in value.items()]
    factory = {"factory": sub(value.default_factory, ".default_factory")} if hasattr(value, "default_factory") else {}
    return type(value).__name__, {**factory, "items": entries}


def _read_entries(raw: Fields, back: Back) -> list[tuple[Any, Any]]:
    return [(back(key), back(part)) for key, part in raw["items"]]


def _partial(value: functools.partial[Any], sub: Sub) -> tuple[str, Fields] | None:
    if vars(value):
        return None
    return "partial", {"function": sub(value.func, ".func"), "args": sub(list(value.args), ".args"),
                       "keywords": sub(value.keywords, ".keywords")}  # fmt: skip


_WRITERS: dict[type, Callable[[Any, Sub], tuple[str, Fields] | None]] = {
    datetime.datetime: _datetime,
    datetime.time: _datetime,
    datetime.date: lambda value, sub: ("date", {"value": value.isoformat()}),
    datetime.timedelta: _timedelta,
    datetime.timezone: _timezone,
    zoneinfo.ZoneInfo: _zone,
    range: lambda value, sub: ("range", {"value": [value.start, value.stop, value.step]}),
    slice: lambda value, sub: ("slice", {"value": [sub(p, "") for p in (value.start, value.stop, value.step)]}),
    type(Ellipsis): lambda value, sub: ("ellipsis", {}),
    re.Pattern: lambda value, sub: ("pattern", {"value": sub(value.pattern, ".pattern"), "flags": value.flags}),
    collections.OrderedDict: _counted,
    collections.Counter: _counted,
    collections.defaultdict: _counted,
    collections.deque: lambda value, sub: ("deque", {"items": sub(list(value), ""), "most": value.maxlen}),
    types.SimpleNamespace: lambda value, sub: ("namespace", {"fields": sub(vars(value), "")}),
    types.MappingProxyType: lambda value, sub: ("mappingproxy", {"of": sub(dict(value), "")}),
    functools.partial: _partial,
}


# -- numpy and torch -------------------------------------------------------------------------------------------------


def _numpy(value: Any) -> tuple[str, Fields] | None:
    """A scalar or an array. A scalar's text is for the reader's eyes; its bytes are what counts."""
    import numpy as np

    if isinstance(value, np.generic) and not value.dtype.hasobject and _says_all(value.dtype):
        return "numpy.scalar", {"dtype": value.dtype.str, "value": str(value), "base64": _base64(value.tobytes())}
    if type(value) is np.ndarray and not value.dtype.hasobject and _says_all(value.dtype):
        return "numpy.array", {
            "dtype": value.dtype.str,
            "shape": list(value.shape),
            "base64": _base64(value.tobytes()),
        }
    return None


def _says_all(dtype: Any) -> bool:
    """Whether a dtype is its text, as one with fields is not, nor one of another library."""
    import numpy as np

    try:
        return bool(np.dtype(dtype.str) == dtype)
    except TypeError:
        return False


def _read_scalar(raw: Fields, back: Back) -> Any:
    import numpy as np

    dtype = np.dtype(raw["dtype"])
    return np.frombuffer(base64.b64decode(raw["base64"]), dtype)[0] if dtype.itemsize else dtype.type()


def _read_array(raw: Fields, back: Back) -> Any:
    import numpy as np

    return np.frombuffer(base64.b64decode(raw["base64"]), np.dtype(raw["dtype"])).reshape(raw["shape"]).copy()


def _tensor(value: Any) -> tuple[str, Fields] | None:
    """A small dense tensor on the CPU, such as the weights of classes."""
    import torch

    if value.device.type != "cpu" or value.layout is not torch.strided or value.requires_grad or value.is_quantized:
        return None
    data = value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if value.numel() else b""
    return "torch.Tensor", {"dtype": str(value.dtype), "shape": list(value.shape), "base64": _base64(data)}


def _read_tensor(raw: Fields, back: Back) -> Any:
    import torch

    dtype = _dtype(torch, raw["dtype"])
    data = bytearray(base64.b64decode(raw["base64"]))
    return (torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)).reshape(raw["shape"])


def _dtype(torch: Any, text: str) -> Any:
    found = getattr(torch, text.removeprefix("torch."))
    if not isinstance(found, torch.dtype):
        raise SpecError(f"a dtype '{text}'", allowed="a dtype of torch")
    return found


def _numpy_dtype(raw: Fields, back: Back) -> Any:
    import numpy as np

    return np.dtype(raw["value"])


def _torch_size(raw: Fields, back: Back) -> Any:
    import torch

    return torch.Size(raw["items"])


_READERS: dict[str, Callable[[Fields, Back], Any]] = {
    "datetime": _read_datetime,
    "time": _read_datetime,
    "date": lambda raw, back: datetime.date.fromisoformat(raw["value"]),
    "timedelta": lambda raw, back: datetime.timedelta(raw["days"], raw["seconds"], raw["microseconds"]),
    "timezone": lambda raw, back: datetime.timezone(back(raw["offset"]), *raw["name"]),
    "zoneinfo": lambda raw, back: zoneinfo.ZoneInfo(raw["key"]),
    "range": lambda raw, back: range(*raw["value"]),
    "slice": lambda raw, back: slice(*map(back, raw["value"])),
    "ellipsis": lambda raw, back: ...,
    "pattern": lambda raw, back: re.compile(back(raw["value"]), raw["flags"]),
    "OrderedDict": lambda raw, back: collections.OrderedDict(_read_entries(raw, back)),
    "Counter": lambda raw, back: collections.Counter(dict(_read_entries(raw, back))),
    "defaultdict": lambda raw, back: collections.defaultdict(back(raw["factory"]), _read_entries(raw, back)),
    "deque": lambda raw, back: collections.deque(back(raw["items"]), raw["most"]),
    "namespace": lambda raw, back: types.SimpleNamespace(**back(raw["fields"])),
    "mappingproxy": lambda raw, back: types.MappingProxyType(back(raw["of"])),
    "partial": lambda raw, back: functools.partial(back(raw["function"]), *back(raw["args"]), **back(raw["keywords"])),
    "numpy.scalar": _read_scalar,
    "numpy.array": _read_array,
    "numpy.dtype": _numpy_dtype,
    "torch.Size": _torch_size,
    "torch.Tensor": _read_tensor,
}
