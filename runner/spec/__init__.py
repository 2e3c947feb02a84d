"""What a user writes, checked when it is made, and as JSON. Nothing is looked up, read or started."""
