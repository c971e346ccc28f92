"""From a float network to few bits without training: steps, equalisation, biases, rounding, a file each."""
