"""What holds a credential, told by its name: files of a project, storage options, parts of a URL.

Names are all that can be known; the lists hold what the programs of clouds, clusters and hubs use by default.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any
from urllib.parse import urlsplit

from runner.errors import InputError

#: A storage option of this beginning names the environment variable that has its value.
BY_NAME = "env:"

_FILES = (
    "*.env", ".env", ".env.*", "*.env.*", ".envrc", "*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.keystore",
    "*.kdbx", "*.ppk", "*.ovpn", "*.agekey", "*.tfvars", "*.tfvars.json", "*.tfstate", "*.tfstate.*",
    "*.kubeconfig", "kubeconfig*", ".netrc", "_netrc", ".pgpass", ".my.cnf", ".pypirc", ".npmrc", ".yarnrc*",
    "pip.conf", ".git-credentials", ".gitconfig", ".dockercfg", ".dockerconfigjson", ".s3cfg", ".boto",
    ".passwd-s3fs", ".mc.json", "rclone.conf", ".vault-token", "id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*",
    "*_rsa", "*_ed25519", "credentials", "credentials.*", "*_credentials", "*-credentials", "*_credentials.*",
    "*-credentials.*", "accesskeys*.csv", "*_accesskeys.csv", "*rootkey*.csv", "application_default_credentials*",
    "client_secret*", "service-account*", "service_account*", "serviceaccount*", "*-sa.json", "*_sa.json",
    "*gcp-key*", "*gcp_key*", "token", "*.token", ".*token", "token.json", "oauth*.json", "secret", "secrets",
    "secret.*", "secrets.*", ".secret*", "*.secret", "*.secrets", "auth.json", ".htpasswd", "wandb_api_key*",
    "*api_key.txt", "*apikey.txt", "kaggle.json", "azureprofile.json", "accesstokens.json",
)  # fmt: skip
_FOLDERS = (
    ".aws", ".azure", ".kube", ".ssh", ".gnupg", ".mc", ".oci", ".gcloud", ".huggingface", ".kaggle",
    ".ipynb_checkpoints", "gcloud", "rclone", ".password-store", ".terraform", ".vault", ".secrets", "secrets",
)  # fmt: skip
#: Files whose names are common, below these folders.
_PLACES = ((".docker", "config.json"), (".streamlit", "secrets.toml"), ("wandb", "settings"), (".cargo", "credentials"))
#: Words of an option's name, which is cut at '_', '-' and capitals.
_OPTION = re.compile(
    r"secret|token|passw(or)?d|passphrase|credential|authorization|cookie|"
    r"(api|access|account|private|shared|secret|encryption|session)key|keyid|sas|connectionstring|bearer"
)
_OPTIONS = ("key", "auth", "sas", "pwd", "pass")
#: How gcsfs and adlfs are told where to look, which is no secret.
_KINDS_OF_TOKEN = ("anon", "cloud", "google_default", "browser", "cache")


def is_file_of_secrets(path: PurePath) -> bool:
    """Whether a file of a project, given by its path there, holds credentials by its name; a module of Python's never
    does. Capitals do not matter.
    """
    parts = tuple(part.lower() for part in path.parts)
    if parts[-1].endswith((".py", ".pyi")):
        return any(folder.startswith(".") and folder in _FOLDERS for folder in parts[:-1])
    if any(folder in _FOLDERS for folder in parts[:-1]) or parts[-2:] in _PLACES:
        return True
    return any(fnmatch.fnmatchcase(parts[-1], pattern) for pattern in _FILES)


def given(options: Mapping[str, Any]) -> list[str]:
    """The storage options that are credentials themselves, as dotted names; not those that name a variable."""
    return list(_given(options, ()))


def _given(options: Mapping[Any, Any], above: tuple[str, ...]) -> Iterator[str]:
    for name, value in options.items():
        here = (*above, str(name))
        if isinstance(value, Mapping):
            yield from _given(value, here)
        elif _is_secret(str(name), value) or (isinstance(value, str) and in_url(value)):
            yield ".".join(here)


def _is_secret(name: str, value: Any) -> bool:
    if value is None or isinstance(value, bool | int | float):
        return False
    if isinstance(value, str) and (value.startswith(BY_NAME) or value in ("", *_KINDS_OF_TOKEN)):
        return False
    plain = re.sub("[^a-z0-9]", "", name.lower())
    return name.lower() in _OPTIONS or _OPTION.search(plain) is not None


def in_url(url: str) -> bool:
    """Whether a URL has a password before its host."""
    try:
        return "://" in url and urlsplit(url).password is not None
    except ValueError:  # whoever opens it says what is wrong
        return False


def resolved(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Storage options with the values of the variables that they name, for who opens the file system.

    Raises:
        InputError: there is no such variable here.
    """
    return {name: _resolved(name, value) for name, value in (options or {}).items()}


def _resolved(name: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return {inner: _resolved(f"{name}.{inner}", part) for inner, part in value.items()}
    if not isinstance(value, str) or not value.startswith(BY_NAME):
        return value
    variable = value.removeprefix(BY_NAME)
    if variable not in os.environ:
        raise InputError(
            f"storage option '{name}' is {value!r}, and there is no variable {variable} here ({os.uname().nodename})",
            allowed="a variable of every process that opens it",
            todo=f"set {variable}; on Kubernetes by a Secret of the cluster file (secrets=...)",
        )
    return os.environ[variable]
