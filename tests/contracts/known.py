"""Callables that do not check all of their arguments yet: a list that only shrinks."""

KNOWN = {
    "integrations.transformers.use_nystrom",
    "linalg.adjoint",
    "linalg.transpose",
    "nn.NystromAttention",
    "nn.NystromAttention.forward",
    "nn.NystromAttention.runs_exactly",
}
