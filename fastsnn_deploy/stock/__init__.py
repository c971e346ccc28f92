"""Sequential networks of stock lava-dl NetX layers and neurons."""
