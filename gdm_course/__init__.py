"""Deep generative models: the six families, from scratch in PyTorch."""

__version__ = "0.1.0"
