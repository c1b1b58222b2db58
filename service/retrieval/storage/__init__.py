"""Files of artefacts: hashed, synced to disk, published by renaming."""
