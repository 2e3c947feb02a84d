"""This process: where its code lies, Ctrl-C, standard streams, private folders. Nothing else of runner is imported."""
