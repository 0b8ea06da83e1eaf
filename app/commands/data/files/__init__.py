"""Files that people have: what they are, and the records in them."""
