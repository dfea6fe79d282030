"""What can be done to a face: forgeries, losses of quality, augmentations.

families    forged faces from real ones, in ten ways
degrade     losses of quality of known strength
augment     the view of a face that training takes
operations  RandAugment and colour jitter
"""
