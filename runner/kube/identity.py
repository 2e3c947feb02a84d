"""Which cluster a run is on. The name of a context says that only where it was submitted: elsewhere, or tomorrow, the
same words may lead to another cluster, on which the run is not, and is not lost either.
"""

from __future__ import annotations

from runner.kube.client import SERVICE_ACCOUNTS, Kube, KubeError


def mark(kube: Kube, account: str) -> str:
    """What this cluster, and no other, has in this namespace: the uid of a ServiceAccount; the address of the API where
    that may not be read.
    """
    try:
        found = kube.find(SERVICE_ACCOUNTS, account)
    except KubeError as error:
        if error.status != 403:
            raise
        found = None
    return kube.host if found is None else str(found["metadata"]["uid"])


def leads_to(kube: Kube, marked: str) -> bool:
    """Whether this is the cluster that was marked; False where that cannot be told."""
    if "://" in marked:
        return kube.host == marked
    try:
        accounts = kube.select(SERVICE_ACCOUNTS)
    except KubeError:
        return False
    return any(account["metadata"]["uid"] == marked for account in accounts)
