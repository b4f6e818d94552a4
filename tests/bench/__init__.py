"""The bench: rows a second of several ways to write, side by side in one run."""
