"""Options: `table` says what each may be, `checks` compares a configuration with it."""
