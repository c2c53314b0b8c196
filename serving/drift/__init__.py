"""What the endpoint logged, held against what the version was fitted on."""
