"""The first lines that run on a machine of a cluster: fetch the run's code, then go on in it.

Its text travels in the pod's spec, or in the job's environment.

It must work with whatever runner the image holds, or none, so it imports nothing of runner; fsspec must be there.
"""

import hashlib
import io
import json
import os
import runpy
import shutil
import stat
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

#: Packages of which an error is mostly that a store did not answer.
CLIENTS = ("aiobotocore", "aiohttp", "azure", "botocore", "gcsfs", "requests")


def main() -> None:
    """Unpack the code that RUNNER_ARGUMENT names and run its module as the main program."""
    argument = json.loads(os.environ["RUNNER_ARGUMENT"])
    folder = Path(tempfile.gettempdir()) / argument["folder"]  # an absolute one stays as it is
    if not (folder / "runner").is_dir():
        unpack(argument["code"], argument["options"], folder, argument.get("sealed") or {})
    refuse_others(folder)
    sys.path.insert(0, str(folder))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    sys.argv = [argument["module"], json.dumps(argument)]
    runpy.run_module(argument["module"], run_name="__main__")


def unpack(url: str, options: dict, folder: Path, sealed: dict) -> None:
    """Beside the folder first, then renamed: a half-written one is never used.

    Args:
        sealed: name in the bundle -> sha256. Code that is not the one which was submitted is not unpacked.
    """
    import fsspec

    def read() -> bytes:
        with fsspec.open(url, "rb", **named(options)) as file:
            return file.read()

    data = patiently(read)
    if sealed and hashlib.sha256(data).hexdigest() != sealed.get(url.rsplit("/", 1)[-1]):
        sys.exit(f"{url} is not what was submitted: somebody has changed it in the store; nothing of it was run")
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        archive.extractall(beside)
    (beside / "project").mkdir(exist_ok=True)
    (beside / "lake-runner-code").touch()
    try:
        beside.rename(folder)
    except OSError:  # another process of the run was faster
        if not (folder / "runner").is_dir():
            raise
        shutil.rmtree(beside)


def refuse_others(folder: Path) -> None:
    """Another user of the machine may have made a folder of that name before us: his code is not run."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        sys.exit(f"{folder} belongs to another user of this machine, so it is not the run's code: remove it")


def named(options: dict) -> dict:
    """Storage options with the variables that they name, as `runner.store.credentials.resolved` has it."""

    def value_of(value: object) -> object:
        if isinstance(value, dict):
            return named(value)
        return os.environ[value[4:]] if isinstance(value, str) and value.startswith("env:") else value

    return {name: value_of(value) for name, value in options.items()}


def patiently(read: Callable[[], bytes]) -> bytes:
    """What `read` returns, tried again for ten minutes where the store does not answer."""
    deadline, pause = time.monotonic() + 600, 0.5
    while True:
        try:
            return read()
        except Exception as error:
            if not is_away(error) or time.monotonic() + pause > deadline:
                raise
            print("trying again:", repr(error), file=sys.stderr, flush=True)
        time.sleep(pause)
        pause = min(2 * pause, 10.0)


def is_away(error: Exception) -> bool:
    """Whether the same may succeed later."""
    named, words = type(error).__name__, str(error)
    if isinstance(error, (FileNotFoundError, PermissionError)) or "Credential" in named:
        return False
    status = getattr(error, "status_code", None) or getattr(error, "code", None)  # of Azure's, of gcsfs's
    if isinstance(status, int):
        return status >= 500 or status in (408, 429)
    if "Authentication" in named or words.startswith("Forbidden"):  # the latter is how gcsfs says 403
        return False
    return isinstance(error, OSError) or type(error).__module__.split(".")[0] in CLIENTS


if __name__ == "__main__":
    main()
