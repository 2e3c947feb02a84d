"""The words of Kubernetes, of its webhooks and of Kueue, as causes: nobody else looks at what they say.

The API has a status and a reason for what it refuses, and both are coarse: a 403 may be a missing right, a quota or a
policy, a 500 a webhook that is just being replaced. What tells them apart are sentences, of Kubernetes 1.2x and 1.3x.
"""

from __future__ import annotations

import re

from runner.errors import Cause, cause_of_status

#: How each authorizer ends; any other 403 is about an object that one may make.
_NO_RIGHT = re.compile(r"cannot \S+ (resource|path) ")
#: Of webhooks, and of policies within the API.
_DENIED = re.compile(r"denied (the )?request")


def of_refusal(status: int, message: str) -> Cause:
    """Why the API did not do what it was asked for."""
    if status >= 500 and "failed calling webhook" in message:
        return Cause.API_BUSY
    if status == 403 and _NO_RIGHT.search(message):
        return Cause.DENIED
    if status == 403 and "exceeded quota" in message:
        return Cause.QUOTA
    if status == 403 and "violates PodSecurity" in message:
        return Cause.POD_SECURITY
    if status in (400, 403, 422) and _DENIED.search(message):
        return Cause.POLICY
    return Cause.API_REFUSED if status == 403 and message else cause_of_status(status)
