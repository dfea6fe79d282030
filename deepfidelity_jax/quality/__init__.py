"""How good a picture of a face is: the measures that fidelity targets are made from.

measure    Measure, the one a configuration names; all others are behind it
iso29794   computed from the picture, without weights
ser_fiq    SER-FIQ (the paper's), by an ArcFace checkpoint of the user's
iresnet    ArcFace's network
table      scores from a CSV file
"""
