"""Whose code a bundle holds, and that it is what was submitted.

Whoever may write a store may write bundles into it, under any name. So what a submission writes is sealed: the sha256
of the spec, the code and the lock of packages travel to the run's processes beside the store (in their arguments), and
none of them acts on other bytes. And the seal is signed with a key of the user's own, by which a bundle is known again
as his: the code of any other starts only when he says so.
"""

from __future__ import annotations

import getpass
import hashlib
import hmac
import json
import os
import secrets
import tempfile
from collections.abc import Mapping
from pathlib import Path

from runner.errors import InputError, StoreRefused
from runner.process import private

#: The variable that holds the key where a home does not last, as in CI.
VARIABLE = "RUNNER_KEY"
_SHORTEST = 32

Seal = dict[str, str]


def user() -> str:
    """Who works here, by name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def seal(parts: Mapping[str, bytes]) -> Seal:
    """Key in the bundle -> sha256 of what lies there."""
    return {key: hashlib.sha256(data).hexdigest() for key, data in sorted(parts.items())}


def check(sealed: Mapping[str, str], key: str, data: bytes, where: str) -> bytes:
    """The data, if it is what was sealed; without a seal any data is.

    Raises:
        StoreRefused: it has been changed since, or was never sealed.
    """
    if sealed and not hmac.compare_digest(sealed.get(key, ""), hashlib.sha256(data).hexdigest()):
        raise StoreRefused(
            f"{key} is not what was submitted" if key in sealed else f"{key} was never submitted",
            allowed="a bundle that nobody has changed since",
            todo="see who may write the store; submit the job again",
            where=where,
        )
    return data


def sign(run_id: str, sealed: Mapping[str, str]) -> str:
    """The seal of a run, signed by this user."""
    return hmac.new(_key(), _words(run_id, sealed), "sha256").hexdigest()


def is_mine(run_id: str, sealed: Mapping[str, str], signature: object) -> bool:
    """Whether this user has signed the seal."""
    known = isinstance(signature, str) and bool(sealed)
    return known and hmac.compare_digest(str(signature), sign(run_id, sealed))


def _words(run_id: str, sealed: Mapping[str, str]) -> bytes:
    return json.dumps([run_id, sorted(sealed.items())]).encode()


def _key() -> bytes:
    """The user's own, made when it is first needed."""
    given = os.environ.get(VARIABLE)
    if given is not None:
        if len(given) < _SHORTEST:
            raise InputError(
                f"{VARIABLE} has {len(given)} characters",
                allowed=f"{_SHORTEST} or more, that nobody can guess",
                todo=f"for example {VARIABLE}=$(openssl rand -hex 32), kept as a secret",
            )
        return given.encode()
    try:
        return _made(_path())
    except (OSError, RuntimeError):  # there is no home, or none that may be written
        return _made(_temporary())


def _made(path: Path) -> bytes:
    """The key at that path, made if there is none. Raises OSError if that cannot be."""
    try:
        return _kept(path)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        beside = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
        try:
            with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_hex(32))
            os.link(beside, path)
        except FileExistsError:  # another process of this user's was faster
            pass
        finally:
            beside.unlink(missing_ok=True)
        return _kept(path)


def _temporary() -> Path:
    """In a folder of this user's that may be gone tomorrow: runs from before take --trust then."""
    parent = Path(tempfile.gettempdir())
    if private.is_open(parent):
        raise InputError(
            f"no home that can be written, and a {parent} where everybody may replace files",
            allowed="a key that only you can read",
            todo=f"set {VARIABLE}, for example to $(openssl rand -hex 32)",
        )
    return private.make_own_folder(parent, f"lake-runner-{os.getuid()}") / "key"


def _kept(path: Path) -> bytes:
    with open(path, "rb") as file:
        found = os.fstat(file.fileno())
        if found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise InputError(
                f"{path} can be read by others",
                allowed="a file of your own with mode 0600",
                todo=f"chmod 600 {path}; or remove it (runs that it has signed take --trust then)",
            )
        return file.read()


def _path() -> Path:
    """Raises OSError or RuntimeError where there is no home: none is made."""
    base = os.environ.get("XDG_CONFIG_HOME")
    return Path(base or Path.home().resolve(strict=True) / ".config") / "lake-runner" / "key"
