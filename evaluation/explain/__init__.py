"""From attributions of single predictions to what a model relies on."""
