"""`pawl import` and `export`: labelled texts from files and into files."""
