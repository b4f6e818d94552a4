"""How the parts are put together and run: the `oddslog` command and the local stack.

Importing this package loads nothing: the command's own packages are an extra.
"""
