"""The bench: what this machine, or yours, makes of the whole path."""
