"""This process: where its code lies, Ctrl-C, standard streams, private folders. Nothing of runner is imported here."""
