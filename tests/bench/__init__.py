"""``make bench``: speed and memory as ratios, each pair measured side by side in this run. Nothing here is a test."""
