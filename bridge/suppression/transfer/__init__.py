"""Files of the list: what it exports, and what it imports, from other systems, too.

`exporting` writes it out. `importing` puts rows on it, by the statements in `batch_statements`. `source_file` reads a file,
`inspection` says what is wrong with it as a whole, and `staging` brings its rows into the order of the list. Without I/O: `cells` (how text stands in a cell), `columns` (which
column is what, by the header), `reasons` and `times` (what others write there), `rows` (a row of a file), `merging` (what a
row does to an entry), and `batch` (what many do).
"""
