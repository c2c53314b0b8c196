"""What models take: one module a modality, which reads, describes and explains its samples."""
