"""What every process of a leg has in hand: its scope, its machine, its processes, its pools. No stage is known here."""
