"""Architectures of one problem made of those of another: ``<modality>_<problem>.py`` each, found by its name."""
