"""Export of a trained encoder: Sentence Transformers directory, model card, upload to a Hub."""
