"""New data or decisions become a version that passed the gate, step by step."""
