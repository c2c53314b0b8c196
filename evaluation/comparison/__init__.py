"""Architectures against one another on the same test rows."""
