"""Which neurons go to which core of a chip. `kinds/` says, by type of connection, what a tile stores and reaches."""
