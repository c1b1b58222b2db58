"""Texts to embeddings: tokenizer, runtime, pooling."""
