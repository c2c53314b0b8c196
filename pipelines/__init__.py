"""Raw files become validated, split, versioned samples."""
