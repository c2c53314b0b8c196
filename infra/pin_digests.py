"""Write the digests of the base images into Dockerfiles, Compose and manifests.

``python infra/pin_digests.py --registry HOST``, the registry of images whose names begin with no host: Docker Hub's, or
a mirror of it. A tag may be moved to another image, a digest cannot. Without the registry nothing is changed. Standard
library only, by the registry's HTTP API (OCI distribution specification 1.1): a HEAD of each manifest, with the token
that an anonymous client gets.
"""

import argparse
import json
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

HERE = Path(__file__).parent
PLACES = ("docker/*.Dockerfile", "compose*.yaml", "kubernetes/**/*.yaml")
# `name:tag`, which may have a digest already, after FROM or image:
IMAGE = re.compile(
    r"(?P<before>^FROM |^\s*(?:- )?image: )(?P<image>[\w.-]+(?:[/:][\w.-]+)*:[\w.-]+)(?P<pinned>@sha256:[0-9a-f]{64})?",
    re.MULTILINE,
)
KINDS = (
    *("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"),
    *("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"),
)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_SECONDS = 30


def split(image: str, registry: str) -> tuple[str, str, str]:
    """Return registry, repository and tag of ``name:tag``; ``registry`` where the name begins with no host."""
    name, _, tag = image.rpartition(":")
    host, _, rest = name.partition("/")
    if rest and ("." in host or ":" in host or host == "localhost"):
        return host, rest, tag
    return registry, name if "/" in name else f"library/{name}", tag


def digest(image: str, registry: str) -> str:
    """Return the digest that its registry has for an image, see `split`; ValueError says why it cannot be had."""
    registry, repository, tag = split(image, registry)
    scheme = "http" if registry.startswith(("localhost:", "127.0.0.1:")) else "https"
    request = urllib.request.Request(f"{scheme}://{registry}/v2/{repository}/manifests/{tag}", method="HEAD")
    request.add_header("Accept", ", ".join(KINDS))
    try:
        try:
            answer = urllib.request.urlopen(request, timeout=_SECONDS)
        except urllib.error.HTTPError as error:
            if error.code != 401:
                raise
            request.add_header("Authorization", f"Bearer {_token(error.headers.get('WWW-Authenticate', ''))}")
            answer = urllib.request.urlopen(request, timeout=_SECONDS)
        with answer:
            found = answer.headers.get("Docker-Content-Digest", "")
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{image}: {registry} does not tell its digest: {error}") from error
    if not _DIGEST.fullmatch(found):
        raise ValueError(f"{image}: {registry} answered no digest")
    return str(found)


def _token(challenge: str) -> str:
    """Return the token of an anonymous client that a challenge asks for."""
    asked = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    query = urllib.parse.urlencode({name: asked[name] for name in ("service", "scope") if name in asked})
    with urllib.request.urlopen(f"{asked['realm']}?{query}", timeout=_SECONDS) as answer:
        said = json.load(answer)
    return str(said.get("token") or said["access_token"])


def pinned(text: str, digests: dict[str, str]) -> str:
    """Return ``text`` with the digest of each image that is named in ``digests``."""

    def put(found: re.Match[str]) -> str:
        known = digests.get(found["image"])
        return found[0] if known is None else f"{found['before']}{found['image']}@{known}"

    return IMAGE.sub(put, text)


def main() -> int:
    """Look up every image that is not our own, and write the digests; nothing is written unless all are known."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--root", type=Path, default=HERE, help="folder like infra/")
    arguments.add_argument("--registry", required=True, help="of images whose names begin with no host")
    given = arguments.parse_args()
    root = given.root
    texts = {path: path.read_text(encoding="utf-8") for place in PLACES for path in sorted(root.glob(place))}
    images = {found["image"] for text in texts.values() for found in IMAGE.finditer(text)}
    images = {each for each in images if not each.startswith("oncolineage")}
    try:
        digests = {image: digest(image, given.registry) for image in sorted(images)}
    except ValueError as error:
        print(f"error: {error}; nothing was changed", file=sys.stderr)
        return 1
    for path, text in texts.items():
        if (new := pinned(text, digests)) != text:
            path.write_text(new, encoding="utf-8")
            print(f"{path.relative_to(root)}: pinned")
    return 0


if __name__ == "__main__":
    sys.exit(main())
