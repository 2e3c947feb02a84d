"""What the command line prints: tables, live lines, summaries, plots. Nothing here decides anything about a run."""
