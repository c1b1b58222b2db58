"""The encoder on a GPU, run as CUDA graphs of fixed shapes."""
