"""Evidence becomes a registry stage and an endpoint."""
