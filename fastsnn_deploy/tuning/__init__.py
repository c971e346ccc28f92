"""The search for a network that meets a budget: what it may be, what it takes, which one is best."""
