"""One regularizer a file, all of them penalties on how a model scores the items of groups."""
