"""The front desk: each module parses the arguments of one command group, calls one function and prints."""
