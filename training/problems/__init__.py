"""What models answer: a module a problem, with what is sure of an answer and how that is calibrated."""
