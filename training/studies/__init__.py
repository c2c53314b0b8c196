"""Studies: trials of an architecture that many workers share, on one machine or a cluster."""
