"""The commands, a file each: options, and what is said. The work is done beside them.

They load the libraries that they need when they run, so that `--help` is quick.
"""
