"""The encoder on a GPU, in CUDA graphs of fixed shapes."""
