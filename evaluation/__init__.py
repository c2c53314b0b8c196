"""Models become evidence: metrics with intervals, comparisons, explanations, a model card."""
