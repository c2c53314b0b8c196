"""The pages of the dashboard, one per file, and the parts that they share. `serving.dashboard.data` feeds them."""
