"""Arrow's types and values: which are one, how they change without changing a value, and as Python has them."""
