"""Options: `table` lists the allowed values, `checks` checks a configuration against it."""
