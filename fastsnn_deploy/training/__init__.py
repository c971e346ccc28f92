"""Data sets, recipes, networks by name, and the training loop."""
