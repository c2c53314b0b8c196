"""Check that every Kubernetes overlay builds, fits Kubernetes' schemas and is hardened; part of ``make lint``.

``kubectl kustomize`` builds each overlay; `kubernetes_validate` has the schemas, but none of the kinds in `CUSTOM`, of
which only the pods are checked; what KServe adds to a pod is in `_OF_KSERVE`.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml

from infra.check_compose import SECRET, URL_WITH_PASSWORD
from infra.list_licenses import RUNTIME_LOCK, locked

OVERLAYS = Path(__file__).parent / "kubernetes"
CUSTOM = {"RayCluster", "InferenceService"}
_OF_KSERVE = {"canaryTrafficPercent", "labels", "maxReplicas", "minReplicas", "scaleMetric", "scaleTarget"}
VERSION = "1.34"
OURS = re.compile(r"(.*/)?oncolineage[:@]")
PINNED = re.compile(r"[\w./-]+(?::\d+/[\w./-]+)?(:[\w.-]*\d[\w.-]*|@sha256:[0-9a-f]{64})")


def built(overlay: Path) -> list[dict[str, Any]]:
    """Return the manifests of an overlay; raises `ValueError` with the error of kustomize."""
    done = subprocess.run(["kubectl", "kustomize", str(overlay)], capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"{overlay.name}: {done.stderr.strip()}")
    return [each for each in yaml.safe_load_all(done.stdout) if each]


def problems(manifests: list[dict[str, Any]]) -> list[str]:
    """Return what is wrong, a sentence each."""
    found = [problem for manifest in manifests for problem in _of_manifest(manifest)]
    kinds = {manifest["kind"] for manifest in manifests}
    nothing = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    policies = [manifest["spec"] for manifest in manifests if manifest["kind"] == "NetworkPolicy"]
    if "Deployment" in kinds and nothing not in policies:
        found.append("no NetworkPolicy denies everything that is not named")
    return found


def unnamed(folder: Path) -> list[str]:
    """Return the YAML files in the folder of a kustomization that it does not name, and never applies."""
    said = yaml.safe_load((folder / "kustomization.yaml").read_text())
    patches = [patch["path"] for patch in said.get("patches", []) if "path" in patch]
    named = {*said["resources"], *patches, *said.get("configurations", []), "kustomization.yaml"}
    return sorted(f"{folder.name}/{path.name} is not named" for path in folder.glob("*.yaml") if path.name not in named)


def _of_manifest(manifest: dict[str, Any]) -> Iterator[str]:
    kind, name = manifest.get("kind", "?"), manifest.get("metadata", {}).get("name", "?")
    where = f"{kind} {name}"
    if kind == "InferenceService":
        yield from (f"{where}: {problem}" for problem in _of_kserve(manifest["spec"]["predictor"]))
    if kind not in CUSTOM:
        try:
            kubernetes_validate.validate(manifest, VERSION, strict=True)
        except kubernetes_validate.ValidationError as error:
            at = ".".join(str(part) for part in error.path)
            yield f"{where}: {at}: {error.message}"
        except kubernetes_validate.SchemaNotFoundError:
            yield f"{where}: there is no such kind of resource"
    if kind == "Secret":
        yield f"{where}: a secret is in the repository; refer to one by its name"
    if any(isinstance(text, str) and URL_WITH_PASSWORD.search(text) for text in _parts(manifest)):
        yield f"{where}: a URL holds a password"
    if kind == "RayCluster":
        yield from (f"{where}: {problem}" for problem in _of_ray(manifest["spec"]))
    for pod in _pods(manifest):
        yield from (f"{where}: {problem}" for problem in _of_pod(pod))


def _of_ray(spec: dict[str, Any]) -> Iterator[str]:
    version = dict(locked(RUNTIME_LOCK))["ray"]
    if spec.get("rayVersion") != version:
        yield f"rayVersion is {spec.get('rayVersion')}, and the image's Ray is {version}"
    if spec["headGroupSpec"]["rayStartParams"].get("dashboard-host") != "0.0.0.0":
        yield "the head's probes cannot reach it; set dashboard-host to 0.0.0.0"


def _of_kserve(predictor: dict[str, Any]) -> Iterator[str]:
    pod = {name: value for name, value in predictor.items() if name not in _OF_KSERVE}
    yield from _of_manifest({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "predictor"}, "spec": pod})
    if [each["name"] for each in pod["containers"]] != ["kserve-container"]:
        yield "KServe takes the container of this name alone: kserve-container"
    if not 0 <= predictor.get("canaryTrafficPercent", 100) <= 100:
        yield "canaryTrafficPercent is no percentage"


def _of_pod(pod: dict[str, Any]) -> Iterator[str]:
    own = pod.get("securityContext", {})
    root = own.get("runAsNonRoot") is not True or not own.get("runAsUser")
    faults = {
        "may run as root; set runAsNonRoot and runAsUser": root,
        "has no seccompProfile RuntimeDefault": own.get("seccompProfile", {}).get("type") != "RuntimeDefault",
        "gets a token for the cluster's API": pod.get("automountServiceAccountToken") is not False,
    }
    yield from (fault for fault, there in faults.items() if there)
    writable = {volume["name"] for volume in pod.get("volumes", []) if "emptyDir" in volume}
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        name = f"container {container['name']}"
        yield from (f"{name}: {problem}" for problem in _of_container(container))
        temporary = {mount["name"] for mount in container.get("volumeMounts", []) if mount["mountPath"] == "/tmp"}
        if OURS.match(container.get("image", "")) and not temporary & writable:
            yield f"{name}: has no /tmp to write to, where the image sends HOME and DVC's site cache"


def _of_container(container: dict[str, Any]) -> Iterator[str]:
    own, resources = container.get("securityContext", {}), container.get("resources", {})
    gains = own.get("allowPrivilegeEscalation") is not False or own.get("privileged") or own.get("runAsUser") == 0
    asked, limited = set(resources.get("requests", {})), "memory" in resources.get("limits", {})
    faults = {
        f"image {container.get('image')} is not pinned to a version": not PINNED.fullmatch(container.get("image", "")),
        "may gain privileges": gains,
        "keeps capabilities": own.get("capabilities", {}).get("drop") != ["ALL"],
        "may write to its image": own.get("readOnlyRootFilesystem") is not True,
        "asks for no cpu and memory, or has no limit of memory": not (limited and {"cpu", "memory"} <= asked),
    }
    yield from (fault for fault, there in faults.items() if there)
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        asked = container.get(name, {}).get("exec", {}).get("command", [])
        if "pg_isready" in asked and "--host=127.0.0.1" not in asked:
            yield "is asked by its socket, which answers while PostgreSQL still makes its files; use --host=127.0.0.1"
    for variable in container.get("env", []):
        named = variable["name"].endswith("_FILE") or str(variable.get("value")).startswith("/run/")  # a file
        if "value" in variable and SECRET.search(variable["name"]) and not named:
            yield f"{variable['name']} is in plain text; name a file of a secret with {variable['name']}_FILE"


def _pods(part: Any) -> Iterator[dict[str, Any]]:
    return (each for each in _parts(part) if isinstance(each, dict) and isinstance(each.get("containers"), list))


def _parts(part: Any) -> Iterator[Any]:
    """Yield a manifest, list or value and all that is in it."""
    yield part
    for value in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from _parts(value)


def main() -> int:
    """Print the problems of every kustomization."""
    found = []
    for file in sorted(OVERLAYS.rglob("kustomization.yaml")):
        found += unnamed(file.parent)
        try:
            found += [f"{file.parent.name}: {problem}" for problem in problems(built(file.parent))]
        except ValueError as error:
            found.append(str(error))
    print("\n".join(found), end="\n" if found else "", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
