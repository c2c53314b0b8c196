"""The same architectures in every split mode."""
