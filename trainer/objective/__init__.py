"""Training objectives: columns of texts, loss terms, and the loss that combines them."""
