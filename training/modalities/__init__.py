"""What models take: a module a modality, which reads, describes and explains its samples."""
