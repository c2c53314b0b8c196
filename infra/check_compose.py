"""Check that every service of ``infra/compose.yaml`` is hardened; part of ``make lint``."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

COMPOSE = Path(__file__).parent / "compose.yaml"
OURS = re.compile(r"oncolineage:")
PINNED = re.compile(r"[\w./-]+(:[\w.-]*\d[\w.-]*|@sha256:[0-9a-f]{64})")
SECRET = re.compile(r"PASSWORD|SECRET|TOKEN|SALT|_KEY$|CREDENTIAL")
URL_WITH_PASSWORD = re.compile(r"://[^\s:/@]+:[^\s@/]+@")


def problems(compose: dict[str, Any]) -> list[str]:
    """Return what is wrong, a sentence each."""
    found = [f"{name}: {each}" for name, service in compose["services"].items() for each in _of(service, compose)]
    secrets = compose.get("secrets", {})
    return found + [f"secret {name} is not read from a file" for name in secrets if set(secrets[name]) != {"file"}]


def _of(service: dict[str, Any], compose: dict[str, Any]) -> Iterator[str]:
    image, secrets, health = service.get("image", ""), service.get("secrets", []), service.get("healthcheck", {})
    user = str(service.get("user", "0")).split(":")[0]
    tmpfs = [given] if isinstance(given := service.get("tmpfs", []), str) else given
    asked = given.split() if isinstance(given := health.get("test", []), str) else given
    faults = {
        f"image {image} is not pinned to a version": not PINNED.fullmatch(image),
        "runs as root; give it a user by number": not user.isdigit() or user == "0",
        "keeps capabilities": service.get("cap_drop") != ["ALL"] or service.get("cap_add") or service.get("privileged"),
        "may gain privileges": "no-new-privileges:true" not in service.get("security_opt", []),
        "may write to its image": service.get("read_only") is not True,
        "has no /tmp to write to, where the image's variables send HOME and DVC's site cache": OURS.match(image)
        and not any(str(each).startswith("/tmp") for each in tmpfs),
        "has no limit of memory or processes": not {"mem_limit", "pids_limit"} <= set(service),
        "has no health check; say so with `disable: true` where nothing listens": not health,
        "has configs, which podman-compose leaves out; mount the file": "configs" in service,
        "shares the machine's network": service.get("network_mode") == "host",
        "is asked by its socket, which answers while PostgreSQL still makes its files; use --host=127.0.0.1": (
            "pg_isready" in asked and "--host=127.0.0.1" not in asked
        ),
    }
    yield from (fault for fault, there in faults.items() if there)
    for port in service.get("ports", []):
        if not str(port).startswith("127.0.0.1:"):
            yield f"port {port} is open to the network; put a proxy with TLS before it"
    for name, value in service.get("environment", {}).items():
        if (SECRET.search(name) and not name.endswith("_FILE")) or URL_WITH_PASSWORD.search(str(value)):
            yield f"{name} is in plain text; name a secret's file with {name}_FILE"
        if str(value).startswith("/run/secrets/") and str(value).removeprefix("/run/secrets/") not in secrets:
            yield f"{name} names a secret that the service does not have"
    yield from (f"there is no secret {each}" for each in secrets if each not in compose.get("secrets", {}))


def main() -> int:
    """Print the problems."""
    found = problems(yaml.safe_load(COMPOSE.read_text()))
    print("\n".join(found), end="\n" if found else "", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
