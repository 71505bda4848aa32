"""Small encoders trained from nothing, the attention that is put in them, and a trained one tuned."""
