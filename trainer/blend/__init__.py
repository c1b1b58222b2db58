"""Blends: interpolation between the weights of a base and a tuned encoder."""
