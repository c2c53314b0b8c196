# What an installation is upgraded from in tests/containers/test_upgrade.py: the code of an earlier commit, and an
# earlier MLflow, whose tables are older, on the other packages of today's image.
FROM oncolineage:0.1.0
USER root
# hadolint ignore=DL3013
RUN pip install --no-cache-dir --no-deps mlflow==3.16.1 mlflow-skinny==3.16.1 mlflow-tracing==3.16.1 && rm -rf /app
COPY . /app
RUN install --directory --owner=10001 --group=10001 /app/reports
USER 10001:10001
