"""How embeddings are searched: one module a backend behind the protocol in `backend`."""
