"""What models answer: one module a problem, with columns and calibration of the answer."""
