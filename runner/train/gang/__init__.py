"""Starting the ranks of a training and waiting for them: here, in local processes, or on a Ray."""
