"""The bridge that pods are on, the kernel settings it needs, and the removal of both."""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Iterable
from pathlib import Path

from runner.errors import InputError
from runner.onebox.packages import program
from runner.onebox.places import BEFORE, BRIDGE, GATEWAY, PODS, SERVICES

SETTINGS = ("net/ipv4/ip_forward", "net/bridge/bridge-nf-call-iptables")
OURS = ("KUBE-", "CNI-")
TOOLS = ("iptables", "ip6tables")
#: The packet filter's queue in which the first packet of each connection of a pod waits for a verdict.
QUEUE = 100
_TO_QUEUE = f"-m conntrack --ctstate NEW -j NFQUEUE --queue-num {QUEUE}"
#: Chain -> the rules of it: what pods send to each other and outside, once services have become pods and before sources
#: are hidden; and what they send to this machine. What this machine's own root sends is never held up.
_POLICIES = {
    "POSTROUTING": (
        f"-s {PODS} -m owner ! --uid-owner 0 {_TO_QUEUE}", f"-d {PODS} -m owner ! --uid-owner 0 {_TO_QUEUE}",
    ),
    "INPUT": (f"-s {GATEWAY} -j RETURN", f"-s {PODS} {_TO_QUEUE}"),
}  # fmt: skip


def setting(name: str) -> Path:
    """The file of a kernel setting."""
    return Path("/proc/sys") / name


def remember() -> None:
    """Write down, once, what the kernel settings were before us."""
    if not BEFORE.exists():
        BEFORE.write_text(json.dumps({n: setting(n).read_text().strip() for n in SETTINGS if setting(n).exists()}))


def forward() -> None:
    """Let packets pass between pods, services and the outside."""
    for name in SETTINGS:
        if setting(name).exists():
            setting(name).write_text("1")


def forget() -> None:
    """Put the kernel settings back as they were before us."""
    if BEFORE.exists():
        for name, value in json.loads(BEFORE.read_text()).items():
            if setting(name).exists():
                setting(name).write_text(value)


def bridge_filtered() -> bool:
    """Whether packets between two pods on the bridge pass the packet filter, as services need it."""
    file = setting("net/bridge/bridge-nf-call-iptables")
    return file.exists() and file.read_text().strip() == "1"


def bridge_exists() -> bool:
    """Whether the bridge is there."""
    return Path(f"/sys/class/net/{BRIDGE}").exists()


def make_bridge() -> None:
    """The bridge with its address; everything that pods must reach on this machine listens there."""
    if not bridge_exists():
        _ip("link", "add", BRIDGE, "type", "bridge")
    if f" {GATEWAY}/" not in _ip("-4", "address", "show", "dev", BRIDGE):
        _ip("address", "add", f"{GATEWAY}/24", "dev", BRIDGE)
    _ip("link", "set", BRIDGE, "up")
    # Without it the API would not reach services (webhooks) on a machine that has no way out.
    _ip("route", "replace", SERVICES, "dev", BRIDGE)


def remove_bridge() -> None:
    """Remove the bridge and the ends of cables that are still plugged into it."""
    if bridge_exists():
        for port in list(Path(f"/sys/class/net/{BRIDGE}/brif").iterdir()):
            # The kernel removes it too, a moment after the pod at its other end is gone.
            subprocess.run([program("ip"), "link", "delete", port.name], capture_output=True, check=False)
        _ip("link", "delete", BRIDGE)


def _ip(*arguments: str) -> str:
    done = subprocess.run([program("ip"), *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise InputError(
            f"`ip {' '.join(arguments)}` failed: {done.stderr.strip()}",
            todo="this needs a kernel with bridges and veth pairs, and the right to make them",
        )
    return done.stdout


def enforce_policies() -> None:
    """Have each new connection of a pod judged by who listens to the queue; all at once, and again without harm."""
    script = policing(_tables(_save("iptables")).get("mangle", []))
    command = [program("iptables-restore"), "--noflush"]
    done = subprocess.run(command, input=script, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise InputError(
            f"the packet filter takes no rule that asks a queue: {done.stderr.strip()}",
            todo="this needs a kernel with CONFIG_NETFILTER_XT_TARGET_NFQUEUE and CONFIG_NETFILTER_XT_MATCH_OWNER",
        )


def policing(there: Iterable[str]) -> str:
    """What puts the rules into a saved table, in which they may be already."""
    script = ["*mangle", *(f":{_chain(hook)} - [0:0]" for hook in _POLICIES)]
    for hook, rules in _POLICIES.items():
        script += [f"-A {_chain(hook)} {rule}" for rule in rules]
    leading = {hook: f"{hook} -j {_chain(hook)}" for hook in _POLICIES}
    script += [f"-I {rule}" for rule in leading.values() if f"-A {rule}" not in there]
    return "\n".join([*script, "COMMIT", ""])


def _chain(hook: str) -> str:
    return f"KUBE-POLICIES-{hook}"


def chains() -> list[str]:
    """Every chain of the packet filter that Kubernetes or its network plugins made."""
    found = []
    for tool in TOOLS:
        for table, lines in _tables(_save(tool)).items():
            names = (line[1:].split()[0] for line in lines if line.startswith(":"))
            found += [f"{tool} {table} {name}" for name in names if name.startswith(OURS)]
    return found


def remove_chains() -> None:
    """Remove those chains and the rules that lead into them, a table at a time and each as a whole."""
    for tool in TOOLS:
        script = "".join(removal(table, lines) for table, lines in _tables(_save(tool)).items())
        if script:
            command = [program(f"{tool}-restore"), "--noflush"]
            subprocess.run(command, input=script, capture_output=True, text=True, check=True)


def removal(table: str, lines: Iterable[str]) -> str:
    """What takes our chains out of one saved table; nothing if there are none."""
    names, rules = [], []
    for line in lines:
        if line.startswith(":") and line[1:].startswith(OURS):
            names.append(line[1:].split()[0])
        elif line.startswith("-A ") and _is_ours(line):
            rules.append(line)
    if not names and not rules:
        return ""
    leading = [f"-D{rule[2:]}" for rule in rules if not rule.split()[1].startswith(OURS)]
    return "\n".join([f"*{table}", *leading, *(f"-F {n}" for n in names), *(f"-X {n}" for n in names), "COMMIT", ""])


def _is_ours(rule: str) -> bool:
    """Whether a rule leads into one of our chains."""
    words = rule.split()
    return any(a in ("-j", "-g") and b.startswith(OURS) for a, b in itertools.pairwise(words))


def _save(tool: str) -> str:
    """The packet filter as text; nothing where the tool or the kernel's part of it is not there."""
    try:
        done = subprocess.run([program(f"{tool}-save")], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout if done.returncode == 0 else ""


def _tables(saved: str) -> dict[str, list[str]]:
    """The lines of each table."""
    tables: dict[str, list[str]] = {}
    for line in saved.splitlines():
        if line.startswith("*"):
            current = tables.setdefault(line[1:].strip(), [])
        elif line and not line.startswith("#") and line != "COMMIT":
            current.append(line)
    return tables
