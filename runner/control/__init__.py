"""The supervisor of a run: observe, decide, act. Machines are touched through backends alone."""
