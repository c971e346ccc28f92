"""Files that networks are written to and read from, one folder a format."""
