"""Ways to get a range of a remote file by one request. Nothing is tried again here, and nothing kept."""
