"""The files of a transformer: configuration, weights, tokenizer, limit of tokens; loads nothing."""
