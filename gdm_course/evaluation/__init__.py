"""How good a model is: likelihoods, and later samples."""
