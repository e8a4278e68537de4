"""Files of the list: `exporting` writes it out. Without I/O: `cells` (how text stands in a cell) and `times`."""
