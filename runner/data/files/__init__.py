"""Files behind URLs: listed, opened, hashed, decompressed. What is in them is not known here."""
