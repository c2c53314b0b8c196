#!/bin/bash
# Tries the installation where no image registry is reachable: `infra/containers.sh` builds the project's images on
# stand-ins for their base images, made of Debian's packages; `infra/containers.sh COMMAND...` runs podman or
# podman-compose with those images. All that it makes is in the folder CONTAINERS.
set -euo pipefail
at=${CONTAINERS:-${TMPDIR:-/tmp}/oncolineage-containers}
for each in podman buildah debootstrap runc conmon catatonit; do
    command -v "$each" > /dev/null || { echo "error: $each is missing; as root: apt-get install podman buildah runc" \
        "conmon netavark aardvark-dns catatonit iptables nftables debootstrap" >&2; exit 1; }
done
[ "$(id -u)" = 0 ] || { echo "error: debootstrap and podman's networks need root here" >&2; exit 1; }
mkdir -p "$at"
printf '[storage]\ndriver = "overlay"\ngraphroot = "%s/storage"\nrunroot = "%s/run"\n' "$at" "$at" > "$at/storage.conf"
# crun cannot start containers everywhere; podman before 5 looks for netavark where Debian 12 does not put it.
printf '%s\n' '[engine]' 'runtime = "runc"' 'helper_binaries_dir = ["/usr/lib/podman", "/usr/libexec/podman"]' \
    '[network]' 'network_backend = "netavark"' \
    '[containers]' 'default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]' > "$at/containers.conf"
export CONTAINERS_STORAGE_CONF=$at/storage.conf CONTAINERS_CONF=$at/containers.conf PATH=$at/venv/bin:$PATH
[ $# = 0 ] || exec "$@"
cd "$(dirname "$0")/.."

[ -x "$at/venv/bin/podman-compose" ] || { python3 -m venv "$at/venv" && "$at/venv/bin/pip" install --quiet podman-compose; }
if ! podman image exists oncolineage-debian:trixie; then
    rm -rf "$at/debian"
    debootstrap --variant=minbase trixie "$at/debian"
    tar -C "$at/debian" -c . | podman import - oncolineage-debian:trixie
    rm -rf "$at/debian"
fi
build() { buildah bud --isolation chroot --layers --volume /etc/ssl/certs:/run/certificates:ro "$@"; }
for each in $(sed -n 's/^FROM \([a-z/]*:[^ ]*\).*/\1/p' infra/docker/*.Dockerfile | sort -u) \
    "$(sed -n 's/^ *image: \(postgres:.*\)/\1/p' infra/compose.yaml)"; do
    name=${each%:*}
    build --target "${name##*/}" --tag "$each" infra/stand_ins
done
build --file infra/docker/store.Dockerfile --tag oncolineage-store:0.1.0 infra/docker
build --ignorefile infra/docker/platform.Dockerfile.dockerignore --file infra/docker/platform.Dockerfile \
    --build-arg "DEVICE=${DEVICE:-cpu}" --tag oncolineage:0.1.0 .
podman images --filter reference='*oncolineage*'
