"""Answers queries and texts: batches through the encoder, the index, the passages."""
