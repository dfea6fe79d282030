"""What can be done to a face: forgeries, degradations, augmentations."""
