"""Checkpoints of encoders: locate, describe, verify and write them; computes no embeddings."""
