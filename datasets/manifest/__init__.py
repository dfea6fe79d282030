"""Records of any data listed in a table."""
