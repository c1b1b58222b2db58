"""Training rows and evaluation sets: reading, writing, checking."""
