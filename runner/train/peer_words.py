"""The words of gloo, of NCCL and of torch's stores for a rank that went away, as a cause: nobody else looks at them."""

from __future__ import annotations

from collections.abc import Iterator

from runner.errors import Cause

#: torch has a class for some of it (DistError); its process groups raise plain RuntimeErrors otherwise.
_AWAY = ("connection closed by peer", "connection reset by peer", "broken pipe", "gloo/", "nccl error", "tcpstore")


def of_exception(error: BaseException) -> Cause | None:
    """PEER_AWAY if the exception, or one that it was raised from, tells of a lost connection between ranks: it is then
    the echo of another rank's end, and no cause itself. None of anything else.
    """
    import torch.distributed as dist

    for each in _chain(error):
        words = str(each).lower() if isinstance(each, RuntimeError | ConnectionError) else ""
        if isinstance(each, dist.DistError) or any(word in words for word in _AWAY):
            return Cause.PEER_AWAY
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__
