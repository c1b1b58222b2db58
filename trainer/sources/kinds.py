"""Which data sets can be imported; imports nothing heavy, for the command line names them all."""

# Kind -> what it gives; `trainer.sources.<kind>.import_<kind>` reads it.
KINDS = {
    "afriqa": "AfriQA gold passages: rows of train, an evaluation set of dev",
    "ntrex": "NTREX-128: rows by inverse cloze, documents held out for evaluation",
    "xquad": "XQuAD: an evaluation set of every language",
}
