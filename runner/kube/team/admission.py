"""What no object in a team's namespace may be, whoever makes it: policies that the API itself holds (Kubernetes 1.30).

A team may make Jobs and RayJobs, and through these KubeRay and Kubernetes make pods, RayClusters and Services with
rights that the team has not. So what these may be is said here, by lists of what is allowed: a field that a newer
version brings is refused until somebody has looked at it. The policies are of all teams; what one team may have besides
is in annotations of its namespace, which only the platform may change.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from runner.kube import names
from runner.kube.quantities import written
from runner.kube.team.team import ACCOUNT, TEAM, Tenant, of_all
from runner.spec.cluster import SUPERVISOR


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_API = "admissionregistration.k8s.io/v1"
#: Annotations of the namespace: the team's queue, the resources and accounts that it may name, whether it may mount
#: folders of nodes.
QUEUE, RESOURCES, ACCOUNTS, HOST_PATHS = (
    f"lake-runner/{word}" for word in ("queue", "resources", "accounts", "host-paths")
)

#: Of a pod. Not among them: the node's network, processes and users, `nodeName`, claims to devices.
_POD = _words(
    "activeDeadlineSeconds affinity automountServiceAccountToken containers dnsConfig dnsPolicy enableServiceLinks "
    "hostAliases hostname imagePullSecrets initContainers nodeSelector os overhead preemptionPolicy priority "
    "priorityClassName readinessGates restartPolicy runtimeClassName schedulerName schedulingGates securityContext "
    "serviceAccount serviceAccountName setHostnameAsFQDN shareProcessNamespace subdomain terminationGracePeriodSeconds "
    "tolerations topologySpreadConstraints volumes"
)
_CONTAINER = _words(
    "args command env envFrom image imagePullPolicy lifecycle livenessProbe name ports readinessProbe resizePolicy "
    "resources restartPolicy securityContext startupProbe stdin stdinOnce terminationMessagePath "
    "terminationMessagePolicy tty volumeMounts workingDir"
)
_VOLUMES = _words("name configMap downwardAPI emptyDir persistentVolumeClaim projected secret")
#: That a container may add, as Pod Security's baseline has them; teams with folders of nodes go without that.
_CAPABILITIES = _words(
    "AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD NET_BIND_SERVICE SETFCAP SETGID SETPCAP SETUID SYS_CHROOT"
)
_RAY_JOB = _words(
    "activeDeadlineSeconds backoffLimit entrypoint entrypointNumCpus entrypointNumGpus entrypointResources jobId "
    "metadata preRunningDeadlineSeconds rayClusterSpec runtimeEnvYAML shutdownAfterJobFinishes submissionMode suspend "
    "ttlSecondsAfterFinished"
)
_RAY_CLUSTER = _words(
    "authOptions autoscalerOptions enableInTreeAutoscaling headGroupSpec rayVersion suspend workerGroupSpecs"
)
_HEAD = _words("labels rayStartParams resources template")
_WORKERS = _words(
    "groupName idleTimeoutSeconds labels maxReplicas minReplicas numOfHosts rayStartParams replicas resources "
    "scaleStrategy suspend template"
)
_AUTOSCALER = _words(
    "env envFrom idleTimeoutSeconds image imagePullPolicy resources securityContext upscalingMode version volumeMounts"
)
_SERVICE = _words(
    "clusterIP clusterIPs internalTrafficPolicy ipFamilies ipFamilyPolicy ports publishNotReadyAddresses selector "
    "sessionAffinity sessionAffinityConfig trafficDistribution type"
)

#: What changes only who has looked at an object, or how it stands, is let pass.
_CHANGED = "request.operation == 'CREATE' || object.spec != oldObject.spec"
_MARKED = "object.metadata.?labels != oldObject.metadata.?labels"
_OWNED = "object.metadata.?ownerReferences != oldObject.metadata.?ownerReferences"


#: Whether who asks is Kueue, or may do what Kueue does.
_ADMITS = (
    "authorizer.group('kueue.x-k8s.io').resource('workloads').subresource('status').namespace(request.namespace)"
    ".check('update').allowed()"
)


def notes(tenant: Tenant) -> dict[str, str]:
    """Of a team's namespace: what the policies let it have."""
    resources = ("cpu", "memory", "ephemeral-storage", *(name for name in tenant.share if "/" in name))
    return {
        QUEUE: tenant.name if tenant.queue else "",
        RESOURCES: ",".join(resources),
        ACCOUNTS: ",".join(("default", ACCOUNT, *tenant.accounts)),
        HOST_PATHS: str(tenant.host_paths).lower(),
    }


def policies() -> list[dict[str, Any]]:
    """The policies and their bindings to the namespaces of teams."""
    made = (_pods(), _ray(), _services(), _outward(), _queues())
    return [body for policy in made for body in (policy, _binding(policy["metadata"]["name"]))]


def _policy(
    name: str,
    kinds: Sequence[tuple[str, str, str]],
    conditions: Sequence[str],
    variables: dict[str, str],
    refused: Sequence[tuple[str, str]],
) -> dict[str, Any]:
    """A policy: which objects are looked at, and what is refused of them.

    Args:
        kinds: (group, resources, operations), comma-separated.
        conditions: all of which must hold for an object to be looked at.
        refused: (what must hold, how it is said in words, as CEL, where it does not).
    """
    spec: dict[str, Any] = {
        "failurePolicy": "Fail",
        "matchConstraints": {
            "resourceRules": [
                {
                    "apiGroups": [group], "apiVersions": ["*"], "resources": resources.split(","),
                    "operations": operations.split(","), "scope": "Namespaced",
                }
                for group, resources, operations in kinds
            ],
        },
        "matchConditions": [{"name": f"looked-at-{n}", "expression": text} for n, text in enumerate(conditions)],
        "variables": [{"name": key, "expression": text} for key, text in variables.items()],
        "validations": [
            {
                "expression": holds, "messageExpression": said, "message": "no team may make this",
                "reason": "Forbidden",
            }
            for holds, said in refused
        ],
    }  # fmt: skip
    return of_all("ValidatingAdmissionPolicy", _API, f"lake-runner-{name}", spec=spec)


def _binding(policy: str) -> dict[str, Any]:
    selector = {"matchExpressions": [{"key": TEAM, "operator": "Exists"}]}
    spec = {"policyName": policy, "validationActions": ["Deny"], "matchResources": {"namespaceSelector": selector}}
    return of_all("ValidatingAdmissionPolicyBinding", _API, policy, spec=spec)


# -- pods ------------------------------------------------------------------------------------------------------------

_CLUSTER = "(request.kind.kind == 'RayJob' ? object.spec.rayClusterSpec : object.spec)"
_TEMPLATES = f"""
request.kind.kind == 'Pod' ? [object.spec] : request.kind.kind == 'Job' ? [object.spec.template.spec] :
[{_CLUSTER}.headGroupSpec.template.spec]
  + {_CLUSTER}.?workerGroupSpecs.orValue([]).map(w, w.template.spec)
"""
#: Of what pods want to be near to or far from: a pod that must not be beside others' keeps these off all nodes.
_NEAR = "variables.pods.map(p, [p.?affinity.?podAffinity.orValue({}), p.?affinity.?podAntiAffinity.orValue({})])"
_TERMS = (
    "variables.near.all(both, both.all(a, "
    "(a.?requiredDuringSchedulingIgnoredDuringExecution.orValue([]) + "
    "a.?preferredDuringSchedulingIgnoredDuringExecution.orValue([]).map(w, w.podAffinityTerm)).all(t, "
    "!has(t.namespaceSelector) && t.?namespaces.orValue([]).all(n, n == request.namespace))))"
)
#: What the node's own agent calls, from the node's network: probes, and what it does when a container begins or ends.
_CALLS = (
    "[c.?livenessProbe, c.?readinessProbe, c.?startupProbe, c.?lifecycle.?postStart, c.?lifecycle.?preStop]"
    ".all(call, call.?httpGet.?host.orValue('') == '' && call.?tcpSocket.?host.orValue('') == '')"
)
#: The container that KubeRay puts beside a head, before there is a pod that has it.
_BESIDE = f"request.kind.kind in ['RayJob', 'RayCluster'] ? [{_CLUSTER}.?autoscalerOptions.orValue({{}})] : []"


def _pods() -> dict[str, Any]:
    """Every pod, and the templates of pods in what a team makes: so that it is told at once, and not by a pod that
    never comes.
    """
    variables = {
        "given": "namespaceObject.metadata.?annotations.orValue({})",
        "resources": f"variables.given[?'{RESOURCES}'].orValue('').split(',')",
        "accounts": f"variables.given[?'{ACCOUNTS}'].orValue('').split(',')",
        "volumes": f"{_list(_VOLUMES)} + (variables.given[?'{HOST_PATHS}'].orValue('') == 'true' ? ['hostPath'] : [])",
        "pods": _TEMPLATES,
        "containers": "variables.pods.map(p, p.containers + p.?initContainers.orValue([]))",
        "near": _NEAR,
        "beside": f"variables.containers + [{_BESIDE}]",
        # KubeRay's autoscaler has an account of its own, named as the RayCluster that owns the pod
        "own": "request.kind.kind != 'Pod' ? [] : object.metadata.?ownerReferences.orValue([])"
        ".filter(o, o.kind == 'RayCluster' && o.?controller.orValue(false)).map(o, o.name)",
        "of_pods": f"variables.pods.map(p, p.filter(k, !(k in {_list(_POD)})))",
        "of_containers": f"variables.containers.map(all, all.map(c, c.filter(k, !(k in {_list(_CONTAINER)}))))",
    }
    refused = [
        (
            "variables.of_pods.all(f, f.size() == 0) && variables.of_containers.all(all, all.all(f, f.size() == 0))",
            "'a pod of a team may not set ' + variables.of_pods.map(f, f.join(' ')).join(' ') + "
            "variables.of_containers.map(all, all.map(f, f.join(' ')).join(' ')).join(' ')",
        ),
        (
            "variables.pods.all(p, p.?volumes.orValue([]).all(v, v.all(k, k in variables.volumes)))",
            "'a team may mount these kinds of volumes: ' + variables.volumes.filter(v, v != 'name').join(', ')",
        ),
        (
            "variables.pods.all(p, p.?serviceAccountName.orValue('') in [''] + variables.accounts + variables.own)",
            "'a pod of a team runs as one of these accounts: ' + variables.accounts.join(', ') + "
            "' (others: runner admin tenant --service-account)'",
        ),
        (
            "variables.pods.all(p, p.?tolerations.orValue([]).all(t, t.?key.orValue('') != '' && "
            "!t.key.startsWith('node-role.kubernetes.io/')))",
            "'a toleration of a team names the key of a taint, and not one of the control plane'",
        ),
        (
            "variables.beside.all(all, all.all(c, c.?resources.orValue({}).all(k, k in ['limits', 'requests'] && "
            "c.resources[k].all(name, name in variables.resources))))",
            "'a team may ask for ' + variables.resources.join(', ') + ' (others: runner admin tenant --resource)'",
        ),
        (
            "variables.beside.all(all, all.all(c, !c.?securityContext.?privileged.orValue(false) && "
            "c.?securityContext.?capabilities.?add.orValue([]).all(each, each in "
            f"{_list(_CAPABILITIES)}) && c.?ports.orValue([]).all(p, p.?hostPort.orValue(0) == 0)))",
            "'a container of a team has no privileges, ports or capabilities of its node'",
        ),
        (_TERMS, "'affinity of a pod of a team is to pods of its own namespace: no namespaceSelector, no namespaces'"),
        (
            f"variables.containers.all(all, all.all(c, {_CALLS}))",
            "'probes and lifecycle hooks of a team call the container itself: no host'",
        ),
    ]
    kinds = [
        ("", "pods", "CREATE"),
        ("batch", "jobs", "CREATE,UPDATE"),
        ("ray.io", "rayjobs,rayclusters", "CREATE,UPDATE"),
    ]
    return _policy("pods", kinds, [_CHANGED], variables, refused)


# -- what KubeRay makes ----------------------------------------------------------------------------------------------


def _ray() -> dict[str, Any]:
    """RayJobs and RayClusters have what a run needs. Left out is what makes Services, Ingresses and Jobs of other
    shapes, and what lets a RayJob go on in a cluster that no queue has admitted.
    """
    variables = {
        "job": f"request.kind.kind == 'RayJob' ? object.spec.filter(k, !(k in {_list(_RAY_JOB)})) : []",
        "cluster": "request.kind.kind != 'RayJob' ? object.spec : object.spec.?rayClusterSpec.orValue({})",
        "of_cluster": f"variables.cluster.filter(k, !(k in {_list(_RAY_CLUSTER)}))",
        "of_head": f"variables.cluster.?headGroupSpec.orValue({{}}).filter(k, !(k in {_list(_HEAD)}))",
        "of_workers": "variables.cluster.?workerGroupSpecs.orValue([])"
        f".map(w, w.filter(k, !(k in {_list(_WORKERS)}))).filter(f, f.size() > 0).map(f, f[0])",
        "of_autoscaler": f"variables.cluster.?autoscalerOptions.orValue({{}}).filter(k, !(k in {_list(_AUTOSCALER)}))",
        "fields": "variables.job + variables.of_cluster + variables.of_head + variables.of_workers "
        "+ variables.of_autoscaler",
    }
    refused = [
        ("variables.fields.size() == 0", "'a team may not set in a RayJob: ' + variables.fields.join(', ')"),
        (
            "request.kind.kind != 'RayJob' || object.spec.?submissionMode.orValue('') == 'HTTPMode'",
            "'a RayJob of a team is submitted in HTTPMode: other modes make pods that no queue has seen'",
        ),
    ]
    return _policy("ray", [("ray.io", "rayjobs,rayclusters", "CREATE,UPDATE")], [_CHANGED], variables, refused)


def _services() -> dict[str, Any]:
    """A Service leads to pods of the namespace, from within the cluster, by an address that the API has given it."""
    variables = {"fields": f"object.spec.filter(k, !(k in {_list(_SERVICE)}))"}
    refused = [
        (
            "object.spec.?type.orValue('ClusterIP') == 'ClusterIP' && object.spec.?selector.orValue({}).size() > 0 && "
            "object.spec.?ports.orValue([]).all(p, p.?nodePort.orValue(0) == 0)",
            "'a Service of a team is of type ClusterIP and selects pods'",
        ),
        ("variables.fields.size() == 0", "'a Service of a team may not set ' + variables.fields.join(', ')"),
    ]
    return _policy("services", [("", "services", "CREATE,UPDATE")], [_CHANGED], variables, refused)


def _outward() -> dict[str, Any]:
    """Nothing of a team is reached from outside of the cluster."""
    kinds = [
        ("networking.k8s.io", "ingresses", "CREATE,UPDATE"), ("extensions", "ingresses", "CREATE,UPDATE"),
        ("route.openshift.io", "routes", "CREATE,UPDATE"),
    ]  # fmt: skip
    return _policy("outward", kinds, [_CHANGED], {}, [("false", "'a team has no ' + request.kind.kind")])


# -- queues ----------------------------------------------------------------------------------------------------------


def _queues() -> dict[str, Any]:
    """Machines come through the team's queue. A supervisor may come by that of supervisors, or by none: it is small.

    What another object controls Kueue takes for a part of that, and never queues. What it has queued it changes itself
    (it lets it begin): it would take back what others had changed, but pods would have come of it meanwhile.
    """
    labels = "object.metadata.?labels.orValue({})"
    cores, memory = written(SUPERVISOR.cpu * 1000) + "m", str(int(SUPERVISOR.memory or 0))
    variables = {
        "own": f"namespaceObject.metadata.?annotations.orValue({{}})[?'{QUEUE}'].orValue('')",
        "queue": f"{labels}[?'{names.QUEUE}'].orValue('')",
        "pod": "request.kind.kind == 'Job' ? object.spec.template.spec : {}",
        # what says a limit alone asks for as much
        "asked": "request.kind.kind != 'Job' ? [] : variables.pod.containers.map(c, c.?resources.orValue({}))",
        "cores": "variables.asked.map(r, r.?requests.?cpu.orValue(r.?limits.?cpu.orValue('0')))",
        "memory": "variables.asked.map(r, r.?limits.?memory.orValue(r.?requests.?memory.orValue('0')))",
        "devices": "variables.asked.exists(r, r.?limits.orValue({}).exists(k, k.contains('/')))",
        "supervisor": f"request.kind.kind == 'Job' && {labels}[?'{names.ROLE}'].orValue('') == '{names.SUPERVISOR}' && "
        f"{labels}[?'{names.RUN}'].orValue('') == object.metadata.name && "
        "object.spec.?parallelism.orValue(1) <= 1 && object.spec.?completions.orValue(1) <= 1 && "
        "variables.pod.?initContainers.orValue([]).size() == 0 && variables.asked.size() == 1 && "
        f"!variables.devices && variables.cores.all(q, !quantity(string(q)).isGreaterThan(quantity('{cores}'))) && "
        f"variables.memory.all(q, !quantity(string(q)).isGreaterThan(quantity('{memory}')))",
    }  # fmt: skip
    refused = [
        (
            "variables.own in ['', variables.queue] || "
            "(variables.supervisor && variables.queue in ['', variables.own + '-supervisors'])",
            f"request.kind.kind + 's of this team name its queue: label {names.QUEUE}=' + variables.own + "
            "' (the field `queue` of a cluster file); supervisors of runs, which ask for at most "
            f"{SUPERVISOR.cpu:g} cores and {int(SUPERVISOR.memory or 0) >> 20} MiB, name ' + variables.own + "
            "'-supervisors (`supervisor_queue`) or none'",
        ),
        (
            "variables.own == '' || object.metadata.?ownerReferences.orValue([]).all(o, !o.?controller.orValue(false))",
            "'what another object controls passes queues by, so no ' + request.kind.kind + ' may have a controller'",
        ),
    ]
    refused.append(
        (
            "variables.own == '' || variables.queue == '' || request.operation == 'CREATE' || "
            f"object.spec == oldObject.spec || {_ADMITS}",
            "'a ' + request.kind.kind + ' that names a queue is changed, and begun, by the queue alone'",
        )
    )
    conditions = [f"{_CHANGED} || {_MARKED} || {_OWNED}"]
    kinds = [("batch", "jobs", "CREATE,UPDATE"), ("ray.io", "rayjobs", "CREATE,UPDATE")]
    return _policy("queues", kinds, conditions, variables, refused)


def _list(words: Sequence[str]) -> str:
    return "[" + ", ".join(f"'{word}'" for word in words) + "]"
