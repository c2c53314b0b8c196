"""How good a prediction is: metrics, and their intervals by a bootstrap over groups."""
