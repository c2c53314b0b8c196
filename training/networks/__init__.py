"""Neural networks: the loop that trains them, and the families of architectures that share it."""
