"""Comparison of an encoder's embeddings of fixed texts with reference embeddings."""
