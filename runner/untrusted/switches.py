"""Settings of libraries by which data runs code: no run starts where one of them is on.

Ray Data does not unpickle what a file holds, unless it is told to by one of these variables; they hold for all that a
process reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from runner.errors import SpecError

#: Of Ray Data: AUTOLOAD_PYEXTENSIONTYPE, AUTOLOAD_PICKLE_OBJECT_SCALAR, AUTOLOAD_CLOUDPICKLE_TENSOR_METADATA.
_PREFIX = "RAY_DATA_AUTOLOAD_"
_OFF = ("", "0", "false")


def check(environment: Mapping[str, str], where: str) -> None:
    """Raise SpecError if such a setting is on.

    Args:
        where: whose environment it is, for errors.
    """
    for name, value in environment.items():
        if name.startswith(_PREFIX) and str(value).strip().lower() not in _OFF:
            raise SpecError(
                f"{name}={value!r}: whoever writes the data could run code in this run",
                allowed="an environment without it",
                todo="unset it; read files with pickles in them in a script of your own, and write them anew without",
                where=where,
            )


def check_template(template: Mapping[str, Any], where: str) -> None:
    """As `check`, for what a partial pod template says of its containers' environment."""
    for environment in environments(template):
        check(environment, where)


def environments(template: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """What a partial pod template says of the environment of each of its containers."""
    spec = template.get("spec")
    for kind in ("containers", "initContainers"):
        for container in (spec.get(kind) if isinstance(spec, Mapping) else None) or ():
            given = container.get("env") if isinstance(container, Mapping) else None
            pairs = [each for each in given or () if isinstance(each, Mapping)]
            yield {str(each.get("name")): str(each.get("value", "from elsewhere")) for each in pairs}
