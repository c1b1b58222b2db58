"""From a corpus to a generation: encode passages, in shards, by one or many workers."""
