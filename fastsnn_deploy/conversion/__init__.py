"""From a quantised model (PyTorch) to the integer spiking graph: trace it, then lower it."""
