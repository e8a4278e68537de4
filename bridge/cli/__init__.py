"""The command line: each module parses the arguments of one command group, calls one function and prints."""
