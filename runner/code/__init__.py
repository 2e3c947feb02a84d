"""The user's code: references, modules, what code reaches and its hashes, archives, packages. No run is opened."""
