"""Studies: the trials of an architecture, shared by workers on one machine or a cluster."""
