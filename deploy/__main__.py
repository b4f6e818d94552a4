"""`python -m oddslog.deploy` is the `oddslog` command."""

from .entry import main

main()
