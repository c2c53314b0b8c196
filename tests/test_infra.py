"""How it runs elsewhere: manifests that are hardened and fit their schemas, and checks that refuse what is not."""

import copy
import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from evaluation.promotion.signatures import KEY, SIGNERS
from infra.check_compose import problems as compose_problems
from infra.check_manifests import OVERLAYS, _pods, built, unnamed
from infra.check_manifests import _parts as all_parts
from infra.check_manifests import problems as manifest_problems
from serving.alias_moves import HISTORY_URI
from serving.dashboard.data.endpoints import ENDPOINTS
from serving.login import KEYS, read_keys
from serving.stores import ARTIFACTS_URI

Manifests = list[dict[str, Any]]
Overlays = dict[str, Manifests]
ROOT = Path(__file__).parents[1]
INFRA = ROOT / "infra"
COMPOSE: dict[str, Any] = yaml.safe_load((INFRA / "compose.yaml").read_text())
SCHEMA = ["check-jsonschema", "--builtin-schema", "vendor.compose-spec"]
HADOLINT = ["hadolint", "--failure-threshold", "info"]
PLATFORM = [name for name, service in COMPOSE["services"].items() if service["image"].startswith("oncolineage:")]


@pytest.fixture(scope="module")
def overlays() -> Overlays:
    return {file.parent.name: built(file.parent) for file in OVERLAYS.rglob("kustomization.yaml")}


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True)


# Compose


def test_compose_is_hardened_and_fits_its_schema(tmp_path: Path) -> None:
    assert compose_problems(COMPOSE) == []
    assert run(*SCHEMA, *map(str, INFRA.glob("compose*.yaml"))).returncode == 0
    broken = tmp_path / "compose.yaml"
    broken.write_text((INFRA / "compose.yaml").read_text().replace("mem_limit: 2g", "memory_limit: 2g", 1))
    assert run(*SCHEMA, str(broken)).returncode == 1


STORE = "postgresql://lab:pw1@postgres/x"
FAULTS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "latest": (lambda s: s.update(image="postgres:latest"), "is not pinned"),
    "no user": (lambda s: s.pop("user"), "runs as root"),
    "user by name": (lambda s: s.update(user="root"), "runs as root"),
    "root": (lambda s: s.update(user="0:0"), "runs as root"),
    "capabilities": (lambda s: s.pop("cap_drop"), "keeps capabilities"),
    "privileged": (lambda s: s.update(privileged=True), "keeps capabilities"),
    "new privileges": (lambda s: s.pop("security_opt"), "may gain privileges"),
    "writable image": (lambda s: s.update(read_only=False), "may write to its image"),
    "no limit": (lambda s: s.pop("mem_limit"), "no limit of memory"),
    "no health check": (lambda s: s.pop("healthcheck"), "no health check"),
    "host network": (lambda s: s.update(network_mode="host"), "shares the machine's network"),
    "open port": (lambda s: s.update(ports=["5432:5432"]), "is open to the network"),
    "secret in clear": (lambda s: s["environment"].update(POSTGRES_PASSWORD="hunter2"), "is in plain text"),
    "password in a URL": (lambda s: s["environment"].update(URI=STORE), "is in plain text"),
    "secret of another": (lambda s: s["environment"].update(A_FILE="/run/secrets/log_salt"), "does not have"),
    "unknown secret": (lambda s: s.update(secrets=["postgres_password", "other"]), "there is no secret other"),
    "asked by its socket": (lambda s: s["healthcheck"]["test"].remove("--host=127.0.0.1"), "asked by its socket"),
    "a config": (lambda s: s.update(configs=["other"]), "podman-compose leaves out"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_compose_with_a_fault_is_refused(fault: str) -> None:
    plant, told = FAULTS[fault]
    broken = copy.deepcopy(COMPOSE)
    plant(broken["services"]["postgres"])
    found = compose_problems(broken)
    assert len(found) == 1 and found[0].startswith("postgres: ") and told in found[0], found


def test_compose_with_a_fault_elsewhere_is_refused() -> None:
    for part, name, how, told in (
        ("secrets", "log_salt", {"environment": "SALT"}, "secret log_salt is not read from a file"),
        ("services", "tuning", COMPOSE["services"]["tuning"] | {"tmpfs": ["/run"]}, "tuning: has no /tmp to write to"),
    ):
        broken = copy.deepcopy(COMPOSE)
        broken[part][name] = how
        (found,) = compose_problems(broken)
        assert found.startswith(told)
    given = variables()
    assert given["HOME"] == "/tmp" and given["DVC_SITE_CACHE_DIR"].startswith("/tmp/")  # by itself it is /var/tmp/dvc


def variables() -> dict[str, str]:
    text = (INFRA / "docker" / "platform.Dockerfile").read_text()
    (block,) = re.findall(r"^ENV (PATH=(?:.*\\\n)+.*)", text, re.MULTILINE)
    return dict(pair.split("=", 1) for pair in block.replace("\\\n", " ").split())


def test_the_image_runs_the_makefile_without_setting_up_anew(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "requirements.lock").touch()
    env = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "ONCOLINEAGE"))}
    command = ["make", "-n", "history", "TASK=t"]
    for ready, sets_up in ((None, True), (sys.executable, False)):
        env |= {} if ready is None else {"ONCOLINEAGE_READY": ready}
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
        assert "serving.history" in done.stdout and ("uv pip sync" in done.stdout) == sets_up, done.stderr
    assert variables()["ONCOLINEAGE_READY"] == "/opt/venv/bin/python"


def test_work_is_filled_with_a_commit_and_keeps_what_runs_made(tmp_path: Path) -> None:
    origin, work = tmp_path / "origin", tmp_path / "work"
    (work / "lost+found").mkdir(parents=True)  # as of a new volume
    origin.mkdir()
    env = {**os.environ, "GIT_CONFIG_GLOBAL": str(tmp_path / "config"), "GIT_CONFIG_SYSTEM": str(tmp_path / "system")}
    (tmp_path / "config").write_text("[user]\n\tname = a test\n\temail = test@example.org\n")
    fill = (str(INFRA / "docker" / "fill-work"), str(origin / ".git"))

    def done(*command: str, at: Path = origin) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=at, env=env, capture_output=True, text=True)

    def commit(text: str) -> str:
        (origin / "dvc.lock").write_text(text)
        done("git", "add", ".")
        done("git", "commit", "--quiet", "--message", text)
        return done("git", "rev-parse", "HEAD").stdout

    done("git", "init", "--quiet")
    commit("one")
    assert done(*fill, at=work).returncode == 0
    (work / "models").mkdir()
    second = commit("two")
    filled = done(*fill, at=work)
    assert filled.returncode == 0 and filled.stdout.startswith("the code is that of "), filled.stderr
    assert (work / "dvc.lock").read_text() == "two" and (work / "models").is_dir()
    assert done("git", "rev-parse", "HEAD", at=work).stdout == second
    (work / "dvc.lock").write_text("of a retraining")
    commit("three")
    refused = done(*fill, at=work)
    assert refused.returncode != 0 and "dvc.lock" in refused.stderr
    assert (work / "dvc.lock").read_text() == "of a retraining"


def test_services_wait_for_what_they_need() -> None:
    services = COMPOSE["services"]
    for service in services.values():
        for needed, how in service.get("depends_on", {}).items():
            checked = not services[needed]["healthcheck"].get("disable", False)
            assert how["condition"] == ("service_healthy" if checked else "service_completed_successfully"), needed
            always, started = not services[needed].get("profiles"), set(services[needed].get("profiles", []))
            assert always or (service.get("profiles") and set(service["profiles"]) <= started)
    volumes = [each.split(":")[0] for s in services.values() for each in s.get("volumes", []) if isinstance(each, str)]
    assert set(volumes) == set(COMPOSE["volumes"])


def test_variables_are_those_that_the_code_reads() -> None:
    given = {name.removesuffix("_FILE") for name in PLATFORM for name in COMPOSE["services"][name]["environment"]}
    ours = {name for name in given if name.startswith("ONCOLINEAGE_")}
    assert {HISTORY_URI, ARTIFACTS_URI, ENDPOINTS} <= ours
    code = [*ROOT.glob("pipelines/*.py"), *ROOT.glob("serving/**/*.py"), *INFRA.glob("*.py")]
    text = "\n".join(path.read_text() for path in code)
    for name in ours:
        assert f'"{name}"' in text, name


# Secrets


def secrets(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, str(INFRA / "make_secrets.py"), "--to", str(folder), *options)


def test_secrets_are_made_once_and_never_shown_and_a_release_adds_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"

    def read() -> dict[str, str]:
        return {path.name: path.read_text() for path in folder.iterdir()}

    done, made = secrets(folder), read()
    hashed = read_keys(made["api_keys"], "api_keys")
    assert hashed == {"dashboard": hashlib.sha256(made["dashboard_key"].encode()).hexdigest()}
    assert done.returncode == 0 and set(made) == set(COMPOSE["secrets"]), done.stderr
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert not [name for name, content in made.items() if content.strip() in done.stdout]
    assert made["postgres_password"] in made["tracking_database"] and made["admin_password"] in made["auth.ini"]
    again = secrets(folder)
    assert again.returncode == 1 and "nothing was written" in again.stderr and read() == made

    def without(*names: str) -> subprocess.CompletedProcess[str]:
        for name in names:
            (folder / name).unlink()
        return secrets(folder, "--missing")

    done, now = without("reader_password", "dashboard_database"), read()
    assert done.returncode == 0 and "2 secrets (dashboard_database, reader_password)" in done.stdout
    assert set(now) == set(made)
    assert {name for name in made if now[name] != made[name]} == {"reader_password", "dashboard_database"}
    done = without("tracking_database", "log_salt")
    assert done.returncode == 1 and "has no tracking_database, which no other file can be made to fit" in done.stderr
    assert not (folder / "log_salt").exists()


def test_a_secret_reaches_a_process_from_its_file_and_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text('it\'s $(a) "word"\n')
    (tmp_path / "empty").write_text("")
    entry = str(INFRA / "docker" / "with-secrets")
    show = (entry, sys.executable, "-c", "import os; print(os.environ['X_PASSWORD'], 'X_PASSWORD_FILE' in os.environ)")

    def start(path: Path) -> subprocess.CompletedProcess[str]:
        kept = {"PATH": "/usr/bin:/bin", "X_PASSWORD_FILE": str(path), "AWS_SHARED_CREDENTIALS_FILE": "/none"}
        return subprocess.run(show, env=kept, capture_output=True, text=True)

    assert start(tmp_path / "secret").stdout == 'it\'s $(a) "word" False\n'
    for name, told in (("none", "cannot be read"), ("empty", "is empty")):
        done = start(tmp_path / name)
        assert done.returncode == 1 and told in done.stderr and "X_PASSWORD_FILE" in done.stderr


# Dockerfiles


@pytest.mark.parametrize("name", ["platform", "store"])
def test_dockerfiles_pass_and_a_fault_does_not(name: str, tmp_path: Path) -> None:
    text = (INFRA / "docker" / f"{name}.Dockerfile").read_text()
    assert run(*HADOLINT, str(INFRA / "docker" / f"{name}.Dockerfile")).returncode == 0
    assert re.findall(r"^USER (.*)$", text, re.MULTILINE)[-1] == "10001:10001"
    assert "HEALTHCHECK" in text
    broken = tmp_path / "Dockerfile"
    for fault in (
        re.sub(r"^(FROM \S+):\S+", r"\1", text, flags=re.MULTILINE),  # unpinned
        re.sub(r"# hadolint ignore=\S+\n", "", text) + "\nUSER root\n",
    ):
        broken.write_text(fault)
        assert run(*HADOLINT, str(broken)).returncode == 1


def test_the_image_holds_what_the_lock_names_by_hash_and_no_secret_is_in_it_or_committed() -> None:
    assert run("git", "-C", str(ROOT), "check-ignore", "infra/secrets/postgres_password").returncode == 0
    text = (INFRA / "docker" / "platform.Dockerfile").read_text()
    assert "COPY requirements.runtime.lock /tmp/requirements.lock" in text
    assert "--require-hashes --no-deps -r /tmp/requirements.lock" in text
    assert text.count("\nFROM ") == 2 and "COPY --from=build /opt/venv /opt/venv" in text
    kept = (INFRA / "docker" / "platform.Dockerfile.dockerignore").read_text()
    assert "*" in kept.splitlines() and not re.search(r"^!(infra/?$|infra/secrets|\.git|data)", kept, re.MULTILINE)
    copied = re.findall(r"^COPY (?:--\S+ )*(infra/\S+)", text, re.MULTILINE)
    for path in (*copied, *re.findall(r"^!(\S+)", kept, re.MULTILINE)):
        assert (ROOT / path).exists(), path
    for script in re.findall(r"infra/\w+\.py", str([each.get("command") for each in COMPOSE["services"].values()])):
        assert f"!{script}" in kept


# Kubernetes


def test_every_overlay_builds_and_is_hardened(overlays: Overlays) -> None:
    assert set(overlays) == {"base", "cluster", "managed", "gpu", "on-drift", "signed", "kserve", "kserve-canary"}
    for name, manifests in overlays.items():
        assert manifest_problems(manifests) == [], name
    kinds = {(each["kind"], each["metadata"]["name"]) for each in overlays["gpu"]}
    assert {
        *(("Deployment", "tracking"), ("Deployment", "serving"), ("HorizontalPodAutoscaler", "serving")),
        *(("PodDisruptionBudget", "serving"), ("CronJob", "retrain"), ("RayCluster", "tuning")),
        *(("StatefulSet", "postgres"), ("StatefulSet", "store"), ("NetworkPolicy", "default-deny")),
    } <= kinds
    for file in OVERLAYS.rglob("kustomization.yaml"):
        assert unnamed(file.parent) == []


def of(manifests: Manifests, kind: str, name: str) -> dict[str, Any]:
    return next(each for each in manifests if (each["kind"], each["metadata"]["name"]) == (kind, name))


def pod(manifests: Manifests) -> dict[str, Any]:
    return of(manifests, "Deployment", "serving")["spec"]["template"]["spec"]


def container(manifests: Manifests) -> dict[str, Any]:
    return pod(manifests)["containers"][0]


def postgres(manifests: Manifests) -> dict[str, Any]:
    return of(manifests, "StatefulSet", "postgres")["spec"]["template"]["spec"]["containers"][0]


def ray(manifests: Manifests) -> dict[str, Any]:
    return of(manifests, "RayCluster", "tuning")["spec"]


LOCAL = {"dashboard-host": "127.0.0.1"}
SECRET = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"password": "hunter2"}}
BROKEN: dict[str, tuple[Callable[[Manifests], object], str]] = {
    "unknown field": (lambda m: container(m).update(imagePullPolice="Always"), "imagePullPolice"),
    "wrong type": (lambda m: of(m, "Deployment", "tracking")["spec"].update(replicas="two"), "replicas"),
    "unknown kind": (lambda m: of(m, "CronJob", "retrain").update(kind="CronJobs"), "no such kind"),
    "latest": (lambda m: container(m).update(image="registry.example:5000/oncolineage:latest"), "is not pinned"),
    "root": (lambda m: pod(m)["securityContext"].update(runAsUser=0), "may run as root"),
    "root by default": (lambda m: pod(m)["securityContext"].pop("runAsNonRoot"), "may run as root"),
    "system calls": (lambda m: pod(m)["securityContext"].pop("seccompProfile"), "no seccompProfile"),
    "token": (lambda m: pod(m).pop("automountServiceAccountToken"), "a token for the cluster's API"),
    "privileges": (lambda m: container(m)["securityContext"].pop("allowPrivilegeEscalation"), "may gain privileges"),
    "capabilities": (lambda m: container(m)["securityContext"].pop("capabilities"), "keeps capabilities"),
    "writable image": (lambda m: container(m)["securityContext"].pop("readOnlyRootFilesystem"), "may write"),
    "no limit": (lambda m: container(m)["resources"].pop("limits"), "no limit of memory"),
    "secret in clear": (lambda m: container(m)["env"].append({"name": "A_TOKEN", "value": "x1"}), "is in plain text"),
    "secret in a manifest": (lambda m: m.append(SECRET), "a secret is in the repository"),
    "password in a URL": (lambda m: of(m, "ConfigMap", "settings")["data"].update(URI=STORE), "a URL holds a password"),
    "open network": (lambda m: m.remove(of(m, "NetworkPolicy", "default-deny")), "no NetworkPolicy denies"),
    "asked by its socket": (lambda m: postgres(m)["livenessProbe"]["exec"]["command"].pop(1), "asked by its socket"),
    "no folder for DVC": (lambda m: container(m)["volumeMounts"][0].update(mountPath="/scratch"), "has no /tmp"),
    "Ray of another version": (lambda m: ray(m).update(rayVersion="2.50.0"), "and the image's Ray is"),
    "Ray's probes": (lambda m: ray(m)["headGroupSpec"]["rayStartParams"].update(LOCAL), "probes cannot reach it"),
    "Ray as root": (lambda m: ray(m)["headGroupSpec"]["template"]["spec"].pop("securityContext"), "may run as root"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_manifest_with_a_fault_is_refused(fault: str, overlays: Overlays) -> None:
    plant, told = BROKEN[fault]
    broken = copy.deepcopy(overlays["gpu"])
    plant(broken)
    beside = ("default-deny", "dashboard")  # a policy, and a pod that needs it
    found = manifest_problems([m for m in broken if m not in overlays["gpu"] or m["metadata"]["name"] in beside])
    assert found and all(told in each or "no seccompProfile" in each for each in found), found
    assert any(told in each for each in found)


def test_where_releases_are_signed_whoever_loads_one_asks_and_one_signs(overlays: Overlays) -> None:
    signed = yaml.safe_load((INFRA / "compose.signed.yaml").read_text())["services"]
    asked = {name for name, each in signed.items() if each["environment"][SIGNERS] == "/run/signers"}
    signing = [name for name, each in signed.items() if KEY in each["environment"]]
    assert asked == {"serving", "monitor", "dashboard", "backup", "workbench"} and signing == ["workbench"]
    asked, signing = set(), []
    for template in _parts(overlays["signed"], "template"):
        for part in template.get("spec", {}).get("containers", []):
            given = {each["name"]: each.get("value") for each in part.get("env", [])}
            mounted = {each["mountPath"] for each in part.get("volumeMounts", [])}
            if SIGNERS in given:
                assert str(Path(given[SIGNERS]).parent) in mounted
                asked.add(part["name"])
            if KEY in given:
                assert str(Path(given[KEY]).parent) in mounted
                signing.append(part["name"])
    assert asked == {"serving", "monitor", "dashboard", "workbench"} and signing == ["workbench"]


def predictor(manifests: Manifests) -> dict[str, Any]:
    return of(manifests, "InferenceService", "drug-response")["spec"]["predictor"]


def test_kserve_asks_the_endpoint_that_the_deployment_runs_and_a_canary_the_version_in_staging(
    overlays: Overlays,
) -> None:
    plain, canary = predictor(overlays["kserve"]), predictor(overlays["kserve-canary"])
    (own,), (staged,) = plain["containers"], canary["containers"]
    for part in ("args", "env", "envFrom", "image", "resources", "securityContext", "volumeMounts"):
        assert own[part] == container(overlays["kserve"])[part]
    assert plain["volumes"] == pod(overlays["kserve"])["volumes"]
    assert [each for each in own["env"] if each not in staged["env"]] == [{"name": "STAGE", "value": "production"}]
    assert {"name": "STAGE", "value": "staging"} in staged["env"]
    assert canary == plain | {"canaryTrafficPercent": 10, "containers": [staged]}
    manifests, label = overlays["kserve"], plain["labels"]["app.kubernetes.io/name"]
    assert _let_through(manifests, "Egress", label, "tracking", 5000)
    assert _let_through(manifests, "Ingress", "tracking", label, 5000)
    faults: list[tuple[Callable[[dict[str, Any]], object], str]] = [
        (lambda p: p.update(canaryTrafficPercent=110), "no percentage"),
        (lambda p: p.update(minReplica=1), "minReplica"),
        (lambda p: p["containers"][0].update(name="serving"), "kserve-container"),
        (lambda p: p.pop("securityContext"), "may run as root"),
    ]
    for plant, told in faults:
        broken = copy.deepcopy(overlays["kserve-canary"])
        plant(predictor(broken))
        assert any(told in each for each in manifest_problems(broken)), told


def test_a_patch_of_what_is_not_there_does_not_build(tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text("resources: [a.yaml]\npatches: [{path: b.yaml}]\n")
    manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\n"
    (tmp_path / "a.yaml").write_text(manifest % "one")
    (tmp_path / "b.yaml").write_text(manifest % "two")
    with pytest.raises(ValueError, match=r"no matches|failed to find"):
        built(tmp_path)


def test_every_volume_secret_and_service_that_is_named_is_there(overlays: Overlays, tmp_path: Path) -> None:
    manifests = overlays["gpu"]
    names = {(each["kind"], each["metadata"]["name"]) for each in manifests}
    text = yaml.safe_dump_all(manifests)
    for claim in set(re.findall(r"claimName: (\S+)", text)):
        assert ("PersistentVolumeClaim", claim) in names
    for service in set(re.findall(r"https?://([a-z-]+):\d+", text)) - {"localhost"}:
        assert ("Service", service) in names, service
    assert set(re.findall(r"secretName: (\S+)", text)) == {"oncolineage"}
    secrets(tmp_path / "secrets")
    files = {path.name for path in (tmp_path / "secrets").iterdir()}
    given = [each for each in _parts(manifests, "secret") if not each.get("optional")]
    assert {item["key"] for each in given for item in each["items"]} <= files
    for pod in _pods(manifests):
        (mounted,) = [each["secret"]["items"] for each in pod["volumes"] if "secret" in each] or [[]]
        env = [each for part in pod["containers"] for each in part.get("env", [])]
        for source in (each["configMapRef"]["name"] for c in pod["containers"] for each in c.get("envFrom", [])):
            data = of(manifests, "ConfigMap", source)["data"]
            env += [{"name": name, "value": value} for name, value in data.items()]
        named = {each["value"] for each in env if str(each.get("value")).startswith("/run/secrets/")}
        assert named <= {f"/run/secrets/{item['path']}" for item in mounted}
    for each in _parts(manifests, "configMap"):
        assert ("ConfigMap", each["name"]) in names


NEEDS = {
    "MLFLOW_TRACKING_URI": ("tracking", 5000),
    "MLFLOW_BACKEND_STORE_URI_FILE": ("postgres", 5432),
    "ONCOLINEAGE_HISTORY_URI_FILE": ("postgres", 5432),
    "OPTUNA_STORAGE_FILE": ("postgres", 5432),
    "MLFLOW_S3_ENDPOINT_URL": ("store", 8333),
    "REPOSITORY": (None, 443),
}


@pytest.mark.parametrize("name", ["cluster", "managed", "gpu"])
def test_what_a_pod_is_told_of_it_may_reach(name: str, overlays: Overlays) -> None:
    """Else it is started, and waits for an answer that the network never lets through."""
    manifests = overlays[name]
    own = {each["metadata"]["name"] for each in manifests if each["kind"] in ("Deployment", "StatefulSet")}
    reached = set()
    for label, told in _told(manifests).items():
        for variable in told & set(NEEDS):
            target, port = NEEDS[variable]
            if target not in own:
                target, port = None, 443 if target == "store" else port
            assert _let_through(manifests, "Egress", label, target, port), (label, variable)
            assert target is None or _let_through(manifests, "Ingress", target, label, port), (label, variable)
            reached.add((label, variable))
    assert {("dashboard", "ONCOLINEAGE_HISTORY_URI_FILE"), ("fill-work", "REPOSITORY")} <= reached
    assert {("workbench", each) for each in ("MLFLOW_S3_ENDPOINT_URL", "OPTUNA_STORAGE_FILE")} <= reached
    assert not _let_through(manifests, "Egress", "serving", None, 443)


def _told(manifests: Manifests) -> dict[str, set[str]]:
    """Return the label of each kind of pod, and the names of its variables."""
    found: dict[str, set[str]] = {}
    for template in _parts(manifests, "template"):
        if "containers" not in template.get("spec", {}):
            continue
        names = found.setdefault(template["metadata"]["labels"]["app.kubernetes.io/name"], set())
        for part in template["spec"]["containers"]:
            names |= {each["name"] for each in part.get("env", [])}
            for source in part.get("envFrom", []):
                names |= set(of(manifests, "ConfigMap", source["configMapRef"]["name"])["data"])
    return found


def _selects(selector: dict[str, Any], label: str) -> bool:
    wanted = selector.get("matchLabels", {}).get("app.kubernetes.io/name", label)
    return wanted == label and all(label in each["values"] for each in selector.get("matchExpressions", []))


def _let_through(manifests: Manifests, way: str, label: str, other: str | None, port: int) -> bool:
    """Whether a policy lets ``label`` talk to a pod (None: an address outside) on a port, or be talked to by it."""
    policies = [each["spec"] for each in manifests if each["kind"] == "NetworkPolicy"]
    rules = [rule for each in policies if _selects(each["podSelector"], label) for rule in each.get(way.lower(), [])]
    for rule in rules:
        peers = rule.get("to" if way == "Egress" else "from")
        inside = [peer["podSelector"] for peer in peers or [] if "podSelector" in peer]
        outside = any("ipBlock" in peer for peer in peers or [])
        met = outside if other is None else any(_selects(each, other) for each in inside)
        if (met or peers is None) and port in [each["port"] for each in rule.get("ports", [{"port": port}])]:
            return True
    return False


READING = {"reader_password", "log_salt", "dashboard_database", "dashboard_key", "api_keys"}


def test_who_is_asked_from_outside_may_only_read(overlays: Overlays) -> None:
    for name in ("serving", "dashboard"):
        service = COMPOSE["services"][name]
        assert service["environment"]["MLFLOW_TRACKING_USERNAME"] == "reader"
        assert not set(service["secrets"]) - READING
        spec = of(overlays["cluster"], "Deployment", name)["spec"]["template"]["spec"]
        assert spec["containers"][0]["envFrom"] == [{"configMapRef": {"name": "reading"}}]
        (mounted,) = [each["secret"]["items"] for each in spec["volumes"] if "secret" in each]
        assert not {item["key"] for item in mounted} - READING
        given = {each["name"]: each.get("value", "") for each in spec["containers"][0]["env"]}
        for environment in (service["environment"], given):  # else it would refuse to listen to all
            assert environment[KEYS] == "/run/secrets/api_keys"
    assert of(overlays["cluster"], "ConfigMap", "reading")["data"]["MLFLOW_TRACKING_USERNAME"] == "reader"


def test_nobody_but_its_users_comes_near_ray_and_the_code_that_jobs_run(overlays: Overlays) -> None:
    """Ray has no login, and who writes to the volume `work` says what the next job runs."""
    manifests = overlays["gpu"]
    allowed = of(manifests, "NetworkPolicy", "ray")["spec"]["ingress"]
    assert [peer for rule in allowed for peer in rule["from"]] == [
        {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "ray"}}},
        {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "tune"}}},
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kuberay-system"}}},
    ]
    mounting = {
        template["metadata"]["labels"]["app.kubernetes.io/name"]
        for template in _parts(manifests, "template")
        if "claimName: work\n" in yaml.safe_dump(template["spec"].get("volumes", []))
    }
    assert mounting == {"ray", "tune", "retrain", "workbench", "fill-work"}


def _parts(part: Any, key: str) -> list[dict[str, Any]]:
    """Return the values of ``key`` at any depth, where they are mappings."""
    inside = (each[key] for each in all_parts(part) if isinstance(each, dict) and key in each)
    return [value for value in inside if isinstance(value, dict)]
