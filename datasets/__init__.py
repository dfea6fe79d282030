"""Dataset builders: how raw data becomes records."""
