"""From a PyTorch network to a neuromorphic chip, with proof that nothing was lost on the way."""

__version__ = "0.1.0"
