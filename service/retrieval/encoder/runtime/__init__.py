"""The runtimes of an encoder: torch, OpenVINO on a CPU, CUDA graphs on a GPU."""
