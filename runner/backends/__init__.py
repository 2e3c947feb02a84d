"""Machines: what the supervisor does with them, what a client does from outside, and the registry of each kind."""
