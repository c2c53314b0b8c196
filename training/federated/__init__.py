"""Federated learning by Flower: sites train on their own folders, and only weights and agreed sums leave them."""
