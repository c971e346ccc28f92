"""Where accuracy goes between a float network and its spikes, layer by layer, and what brings it back: a file each."""
