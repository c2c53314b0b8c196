"""The refit of a registered version from its tags, and the comparison with it."""

ELSEWHERE = 1e-3  # tolerance of outputs and metrics on another machine or with other packages
