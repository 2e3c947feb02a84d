"""What files hold: their units, schemas and rows, read within limits. No order and no batch."""
