"""Modules of a Sentence Transformers folder: their order, pooling, Dense and LayerNorm."""
