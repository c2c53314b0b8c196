"""What a sample is: a module a modality, with what ``params.yaml`` decides of it and how its raw folder is read."""
