"""What the dashboard draws: a page a file, and the parts that pages share. What is shown is made in `serving.board`."""
