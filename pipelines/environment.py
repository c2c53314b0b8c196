"""Variables that the endpoint sets for the model; versions run the code that they were logged with: never rename."""

MODEL_VERSION = "ONCOLINEAGE_MODEL_VERSION"  # of the registered model; it is in every answer
IMAGE_PIXELS = "ONCOLINEAGE_IMAGE_PIXELS"  # of one image, at most, where the task allows more
PREDICTION_LOG = "ONCOLINEAGE_PREDICTION_LOG"  # folder that predictions are logged to; none where it is not set
LOG_SALT = "ONCOLINEAGE_LOG_SALT"  # key of the hashes of ids and inputs in that log
