"""The command line: commands, and what they print. What is computed is computed below."""
