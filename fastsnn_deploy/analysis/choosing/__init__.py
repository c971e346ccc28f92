"""Which target for a network: all of them measured on the same images, and those that no other beats."""
