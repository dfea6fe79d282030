"""Configurations, imported as `deepfidelity_configs`."""
