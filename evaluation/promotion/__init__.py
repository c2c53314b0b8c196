"""A model with its evidence and card, and whether the gate lets it on."""
