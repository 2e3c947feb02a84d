"""One leg of a run: its stages, one after another, in a process of its own or in the user's."""
