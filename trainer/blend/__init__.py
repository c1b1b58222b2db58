"""Interpolating the weights of a base and a tuned encoder."""
