"""Which data sets can be imported; imports nothing heavy, for the command line names them all."""

# Kind -> what it gives; `trainer.datasets.formats.<kind>.import_<kind>` reads it.
KINDS = {
    "afriqa": "AfriQA gold passages: rows of train, an evaluation set of dev",
    "ntrex": "NTREX-128: rows by inverse cloze, documents held out for evaluation",
    "squad": "SQuAD 1.1 and its translations: rows",
    "mlqa": "MLQA: an evaluation set of every language",
    "belebele": "Belebele: an evaluation set of every language",
    "parallel": "a table of rows, or line-aligned texts: rows, documents held out if asked",
    "xquad": "XQuAD: an evaluation set of every language",
}
