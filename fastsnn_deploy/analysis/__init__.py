"""What a network does and costs, and the proof that it is right: evaluate, verify, count, price."""
