# SeaweedFS as the S3-compatible store, with a folder that its own user may write. Build from the repository's root:
#   docker build -f infra/docker/store.Dockerfile -t oncolineage-store:0.1.0 infra/docker
FROM chrislusf/seaweedfs:3.97
# hadolint ignore=DL3002
USER 0:0
RUN mkdir -p /store && chown 10001:10001 /store
USER 10001:10001
ENTRYPOINT ["/usr/bin/weed"]
CMD ["server", "-dir=/store", "-s3", "-s3.port=8333", "-s3.config=/run/secrets/s3.json", "-ip.bind=0.0.0.0"]
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=6 \
    CMD ["wget", "-q", "-O", "/dev/null", "http://127.0.0.1:8333/healthz"]
