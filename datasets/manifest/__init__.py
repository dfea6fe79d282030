"""Any data listed in a table, as records."""
