"""Making a registered version again, from its tags alone."""
