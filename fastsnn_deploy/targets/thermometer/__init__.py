"""The exact form on stock LIF neurons: each count as a thermometer code of neurons without memory."""
