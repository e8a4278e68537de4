"""`python -m bridge.crew` is one process of the crew; its order comes over standard input."""

from bridge.crew.member import main

main()
