"""Publishing a trained checkpoint: directory, model card, Hub."""
