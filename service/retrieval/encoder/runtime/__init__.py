"""What computes the encoder: torch, OpenVINO on a CPU, CUDA graphs on a GPU."""
