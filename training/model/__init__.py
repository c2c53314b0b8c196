"""The final fit: what is fitted, how far it is trusted, what is logged of it, and what answers."""
