"""Claims of the paper and of the classical theory, one file a claim, checked by machine."""
