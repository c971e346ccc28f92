"""Spiking graph to spiking graph: rounding to a chip's ranges, and one chain of layers in place of branches."""
