"""What data is like: its first rows, its units and columns, what can be verified, and how fast it is read here."""
