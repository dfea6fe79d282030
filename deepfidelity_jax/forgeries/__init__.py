"""What can be done to a face: forgeries, degradations, augmentations.

families    forged faces made from real ones, in several ways
degrade     degradations of known strength
graded      degradations in five grades, for robustness
augment     the augmented view of a face in training
operations  RandAugment and colour jitter
"""
