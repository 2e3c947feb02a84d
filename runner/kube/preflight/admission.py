"""Whether the API would take what a submit makes: a dry run of the very objects.

It passes through all that may refuse or change them: the API's own validation, quotas of objects, policies, webhooks
(Kueue's among them). A stand-in would be judged by what it lacks.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass

from runner.errors import Cause
from runner.kube import client
from runner.kube.client import Kube, KubeError
from runner.kube.preflight.needs import Body, Finding, templates

_ASK = (
    "ask who runs the cluster; labels, security contexts and resources of pods are added by a `pod_template` "
    "of the cluster or the group"
)
_TOO_MANY = "wait until other runs have ended, or ask for more of that quota"


@dataclass(frozen=True)
class Answer:
    """What became of one dry run.

    Args:
        kind, what: of the object, the latter in words.
        made: the object as the API would have it, changed by its webhooks; None where it would have none.
        error: why it would have none, or did not say.
    """

    kind: str
    what: str
    made: Body | None
    error: KubeError | None = None


def ask(kube: Kube, objects: list[Body]) -> list[Answer]:
    """Have the API judge each object, and make none."""
    return [_ask(kube, body) for body in objects]


def _ask(kube: Kube, body: Body) -> Answer:
    kind, what = body["kind"], _words(body)
    try:
        return Answer(kind, what, kube.create(client.resource(body), body, dry_run=True) or body)
    except KubeError as error:
        return Answer(kind, what, None, error)


def _words(body: Body) -> str:
    if body["kind"] == "Job":
        return "Job of the supervisor"
    group = body["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]
    return f"RayJob of group '{group['groupName']}'"


def look(kube: Kube, answers: list[Answer]) -> Iterator[Finding]:
    """What the API says of each object, and of the pods within those that it would take."""
    for answer in answers:
        yield from _of_object(answer)
    for answer in answers:
        if answer.made is not None and (yield from _of_pods(kube, answer)):
            return  # who may not make pods may not try them either; whoever makes them for a run is not asked


def _of_object(answer: Answer) -> Iterator[Finding]:
    error = answer.error
    if error is None:
        yield Finding(answer.what, True, "the API would make it (dry run)")
    elif is_denial(error):
        yield Finding(answer.what, False, error.message, _TOO_MANY if error.cause is Cause.QUOTA else _ASK)
    elif error.status != 404 and error.cause is not Cause.DENIED:  # other checks name missing kinds and rights
        yield Finding(answer.what, None, f"could not be tried: {error.message}")


def is_denial(error: KubeError) -> bool:
    """Whether the object itself was judged, so that the real one would be refused as well.

    Not a denial are trouble, missing rights, and webhooks that take no part in dry runs.
    """
    refused = error.cause is Cause.API_REFUSED and error.status in (403, 422)
    return refused or error.cause in (Cause.QUOTA, Cause.POLICY, Cause.POD_SECURITY)


def _of_pods(kube: Kube, answer: Answer) -> Generator[Finding, None, bool]:
    """A generator: yields what is wrong with the pods of an object, and returns whether these rights suffice for none.

    Pod Security looks at pods alone, and judges them by what they are. Other policies may judge by who makes them, or
    for whom, which is another one here: what those say is told and no refusal.
    """
    assert answer.made is not None
    for name, template in templates(answer.made):
        metadata = {**template.get("metadata", {}), "name": "lake-runner-check", "namespace": kube.namespace}
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
        try:
            kube.create(client.PODS, body, dry_run=True)
        except KubeError as error:
            if error.cause is Cause.DENIED:
                return True
            if error.cause is Cause.POD_SECURITY:
                yield Finding(f"{name} of {answer.what}", False, error.message, _ASK)
            elif error.cause is Cause.POLICY:
                yield Finding(f"{name} of {answer.what}", None, f"made by hand: {error.message}", _ASK)
    return False
