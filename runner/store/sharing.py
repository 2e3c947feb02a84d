"""What a store must be for a run whose machines are not the client's: reachable by all, and no secret to tell them."""

from __future__ import annotations

from runner.errors import StoreRefused
from runner.store import credentials
from runner.store.store import LOCAL, Store


def check_reachable(store: Store, who: str) -> None:
    """Raise StoreRefused if the store is a folder of this machine.

    Args:
        who: must reach it, such as 'every pod'.
    """
    if store.kind == LOCAL:
        raise StoreRefused(
            "a folder of this machine",
            allowed=f"a store that {who} can reach, such as s3://bucket/runs",
            todo="set RUNNER_STORE, --store, or `store` in [tool.runner]",
            where=f"store {store.url}",
        )


def check_no_credentials(store: Store, readable: str, todo: str) -> None:
    """Raise StoreRefused if a storage option is a credential; its value is not shown.

    Args:
        readable: where others could read it, such as "in the pods' specs".
        todo: where it belongs.
    """
    secret = credentials.given(store.options)
    if secret:
        raise StoreRefused(
            f"storage option '{secret[0]}'",
            allowed=f"no credentials: they would be readable {readable}",
            todo=f"{todo}; or name a variable that the machines have: '{credentials.BY_NAME}NAME'",
            where=f"store {store.url}",
        )
