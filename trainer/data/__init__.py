"""Training rows, evaluation sets and relevance judgments: reading, writing, validation."""
