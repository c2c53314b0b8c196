"""The refit of a registered version from its tags, and the comparison with it."""
