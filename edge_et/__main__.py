"""`python -m edge_et` is the command line."""

from edge_et.cli import main

main()
