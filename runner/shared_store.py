"""What a store must be for a run whose machines are not the client's: reachable by all, and no secret to tell them."""

from __future__ import annotations

from typing import Any

from runner.errors import StoreRefused
from runner.store import LOCAL, Store

#: Storage options that are credentials.
_SECRET_OPTIONS = (
    "key", "secret", "token", "password", "client_kwargs.aws_access_key_id", "client_kwargs.aws_secret_access_key",
    "client_kwargs.aws_session_token", "account_key", "sas_token", "connection_string", "client_secret",
)  # fmt: skip


def check_reachable(store: Store, who: str) -> None:
    """Raise StoreRefused if the store is a folder of this machine.

    Args:
        who: must reach it, such as 'every pod'.
    """
    if store.kind == LOCAL:
        raise StoreRefused(
            "a folder of this machine", allowed=f"a store that {who} can reach, such as s3://bucket/runs",
            todo="set RUNNER_STORE, --store, or `store` in [tool.runner]", where=f"store {store.url}",
        )  # fmt: skip


def check_no_credentials(store: Store, readable: str, todo: str) -> None:
    """Raise StoreRefused if a storage option is a credential; its value is not shown.

    Args:
        readable: where others could read it, such as "in the pods' specs".
        todo: where it belongs.
    """
    secret = [name for name in _SECRET_OPTIONS if _option(store.options, name) is not None]
    if secret:
        raise StoreRefused(
            f"storage option '{secret[0]}'", allowed=f"no credentials: they would be readable {readable}",
            todo=todo, where=f"store {store.url}",
        )  # fmt: skip


def _option(options: dict[str, Any], name: str) -> Any:
    value: Any = options
    for word in name.split("."):
        value = value.get(word) if isinstance(value, dict) else None
    return value
