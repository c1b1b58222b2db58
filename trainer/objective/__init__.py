"""Training objectives: the terms, and the loss that joins them."""
