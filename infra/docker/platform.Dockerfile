# One image for tracking server, tuning, serving and dashboard: one lock, so both ends of every connection speak the
# same version of MLflow. Build from the repository's root:
#   docker build -f infra/docker/platform.Dockerfile -t oncolineage:0.1.0 .
# --build-arg DEVICE=cpu leaves out what only a GPU needs.
FROM python:3.12.11-slim-trixie AS build
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/venv
# Before the code: a change of the code does not fetch the packages again.
COPY requirements.runtime.lock /tmp/requirements.lock
RUN /opt/venv/bin/pip install --require-hashes --no-deps -r /tmp/requirements.lock
ARG DEVICE=gpu
COPY infra/docker/without-gpu /tmp/
RUN [ "$DEVICE" = gpu ] || /opt/venv/bin/python /tmp/without-gpu

FROM python:3.12.11-slim-trixie AS runtime
# git: lineage tags and DVC; postgresql-client: backup and restore; libxrender1, libxext6: RDKit's drawings; wget: by it
# KubeRay asks whether a node of Ray's is well.
# Debian's stable release is the pin: an exact version of a package vanishes with its next security fix.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git make postgresql-client libxrender1 libxext6 wget \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin lab \
    && install --directory --owner=10001 --group=10001 /work /work/reports /app/reports /predictions /backup \
    # A volume's folder, and a repository that is mounted, may be another user's: git would say nothing of their commit.
    && git config --system --add safe.directory /work \
    && git config --system --add safe.directory /repository
COPY --from=build /opt/venv /opt/venv
COPY --chmod=0755 infra/docker/with-secrets infra/docker/fill-work /usr/local/bin/
COPY . /app
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    DVC_SITE_CACHE_DIR=/tmp/dvc \
    ONCOLINEAGE_READY=/opt/venv/bin/python \
    OMP_WAIT_POLICY=PASSIVE \
    MLFLOW_DISABLE_TELEMETRY=true \
    MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false \
    MLFLOW_SKIP_PIP_REQUIREMENTS_CHECK=true \
    MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD=false \
    MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD=false \
    GX_ANALYTICS_ENABLED=false \
    DVC_NO_ANALYTICS=1
WORKDIR /app
USER 10001:10001
ENTRYPOINT ["with-secrets"]
CMD ["python", "-m", "serving.endpoint", "--help"]
# Of an endpoint; what runs another process names its own, or none where nothing listens.
HEALTHCHECK --interval=15s --timeout=5s --start-period=180s --retries=4 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:5001/ping', timeout=4)"]
