"""From raw data to TFDS records."""
