"""What serves a stage: no processes, local processes, a Ray, or nothing where all is done."""
