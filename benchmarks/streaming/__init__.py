"""How fast rows come out of files, beside those who also do that: see `main`."""
