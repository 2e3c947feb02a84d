"""What a user writes, checked when it is made, and as JSON. No file is read and nothing is started here."""
