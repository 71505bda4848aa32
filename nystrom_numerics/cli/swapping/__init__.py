"""What is behind ``nystrom swap``: a model from a folder, what it is to be called with, and what was found."""
