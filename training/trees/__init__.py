"""Random forests and gradient boosting, on each kind of sample."""
