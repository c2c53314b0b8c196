"""Which labels are doubtful, and what a person sees of them; a module a modality says what sees the samples."""
