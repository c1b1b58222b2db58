"""Building an index: encode a corpus, in shards, by one or many workers."""
