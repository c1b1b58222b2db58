"""The proof that an encoder's embeddings are right: fixed texts compared with a reference."""
