"""The packages that runner can do without: which of its extras brings each, and what is said where one is missing.

What submitting, watching and reading need is installed with runner; these are imported only where they are used.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Collection, Mapping

from runner.errors import MissingPackage

#: Extra -> the modules that runner imports of it, and the package that each is in.
EXTRAS: Mapping[str, Mapping[str, str]] = {
    "train": {"torch": "torch", "safetensors": "safetensors"},
    "ray": {"ray": "ray"},
    "kube": {"kubernetes": "kubernetes", "yaml": "pyyaml"},
    "gcs": {"gcsfs": "gcsfs"},
    "azure": {"adlfs": "adlfs"},
    "plot": {"matplotlib": "matplotlib"},
    "pandas": {"pandas": "pandas"},
    "packages": {"uv": "uv"},
    "delta": {"deltalake": "deltalake"},
    "iceberg": {"pyiceberg": "pyiceberg"},
    "hf": {"huggingface_hub": "huggingface-hub"},
    "images": {"simplejpeg": "simplejpeg", "PIL": "pillow"},
    "media": {"torch": "torch", "torchcodec": "torchcodec", "PIL": "pillow"},
    "onebox": {"cryptography": "cryptography", "yaml": "pyyaml"},
}


def need(extra: str, what: str, *, module: str | None = None, brought: Collection[str] = ()) -> None:
    """Check that the packages of an extra are installed; nothing is imported.

    Args:
        what: needs them, in words that begin the error.
        module: the only one of the extra that it needs.
        brought: normal names of packages that will be there besides, for the job brings them.

    Raises:
        MissingPackage: one is not.
    """
    wanted = {name: package for name, package in EXTRAS[extra].items() if module in (None, name)}
    absent = [package for name, package in wanted.items() if not (package in brought or _is_there(name))]
    if absent:
        are = "is" if len(absent) == 1 else "are"
        raise MissingPackage(f"{what} needs {' and '.join(absent)}, which {are} not installed: {command(extra)}")


def lacking(*extras: str) -> list[str]:
    """Those of the extras of which a package is not installed."""
    return [extra for extra in extras if not all(map(_is_there, EXTRAS[extra]))]


def command(*extras: str) -> str:
    """What to type so that the packages of extras are installed."""
    return f"pip install 'lake-runner[{','.join(extras)}]'"


def extra_for(error: BaseException) -> str:
    """The extra that brings the package whose import has failed; "" where the error is anything else."""
    module = missing_module(error)
    found = (extra for extra, modules in EXTRAS.items() if module in modules)
    return "" if not module or _is_there(module) else next(found, "")


def missed(error: BaseException) -> MissingPackage | None:
    """The failed import of such a package, by a part of runner that nobody asked before; None for any other error."""
    extra = extra_for(error)
    words = f"this needs {missing_module(error)}, which is not installed on {os.uname().nodename}: "
    return MissingPackage(words + command(extra)) if extra else None


def missing_module(error: BaseException) -> str:
    """The top-level module that an import has not found; "" where the error is anything else."""
    return (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""


def _is_there(module: str) -> bool:
    """Whether a module is installed. A folder of the project that only has its name is none."""
    if sys.modules.get(module) is not None:
        return True
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return False
    return found is not None and found.origin is not None
