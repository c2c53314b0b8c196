"""What the dashboard knows and asks, without a browser: no module here draws anything."""
