"""Every option: what it may be, and what it binds."""
