"""What is measured and explained of a fitted model, sealed by its own hash."""
