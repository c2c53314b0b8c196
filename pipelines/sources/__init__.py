"""Loaders of official layouts: from a folder as it was downloaded and unpacked to a raw folder."""
