"""Variables by which the endpoint tells the model that it serves what it cannot know by itself.

A version that is rolled back to runs the code that it was logged with: names, once used, must not change.
"""

from __future__ import annotations

MODEL_VERSION = "ONCOLINEAGE_MODEL_VERSION"  # of the registered model; every answer carries it
IMAGE_PIXELS = "ONCOLINEAGE_IMAGE_PIXELS"  # of one image, at most, where the task allows more
PREDICTION_LOG = "ONCOLINEAGE_PREDICTION_LOG"  # folder that predictions are logged to; none where it is not set
LOG_SALT = "ONCOLINEAGE_LOG_SALT"  # key of the hashes of ids and inputs in that log
