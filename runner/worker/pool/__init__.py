"""A function mapped over items by workers: in this process, in local processes, or in Ray actors."""
