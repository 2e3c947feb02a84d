"""What others have written: names by strict rules, JSON within bounds and by shape, text that no terminal obeys."""
