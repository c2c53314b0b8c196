"""The final fit: fitting, calibration, logging, and the model that answers."""
