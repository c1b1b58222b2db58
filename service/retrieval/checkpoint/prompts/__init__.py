"""Prompts: the text before each query and passage, stated, known of a family, or overridden."""
