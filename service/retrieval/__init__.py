"""Encoding, indexing and search; knows nothing of HTTP. The trainer imports only this package.

- `corpus`: passages, their metadata fields, and filters.
- `checkpoint`: the files of an encoder, found and verified.
- `encoder`: texts to unit-norm embeddings, by the runtimes torch, CUDA graphs and OpenVINO.
- `index`: nearest-vector search, one backend per module or folder.
- `generation`: versions of an index, verified, published and opened.
- `indexing`: passages in, a published generation out.
- `storage`: files with hashes, JSON documents, Hub repositories.
- `searcher`: queries in, hits out.
"""
