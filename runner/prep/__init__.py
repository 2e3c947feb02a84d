"""The prep stage: its tasks, the user's transform, files, publishing, and what may be used again."""
