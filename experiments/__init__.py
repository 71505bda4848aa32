"""Claims about Nyström attention, one module a claim, checked on real input."""
