-- Once, when PostgreSQL's volume is new: a database of Optuna's own, since both it and MLflow keep the version of their
-- tables under the same name.
CREATE DATABASE studies;
