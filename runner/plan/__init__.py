"""From names to a checked plan: the project, its definitions, facts of the data, what will run. Nothing is started."""
