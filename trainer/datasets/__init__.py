"""Import of published data sets: formats, data cards, decontamination."""
