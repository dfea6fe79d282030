"""From records to a checkpoint."""
