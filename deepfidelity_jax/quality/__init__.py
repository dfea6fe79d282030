"""How good a picture of a face is: the measures that fidelity targets are made from.

measure    Measure, the one that a configuration names; it calls the others
iso29794   computed from the picture, without weights
learned    learnt from degraded copies, without labels
trace      how much a degradation still moves the bundled detector's feature
ser_fiq    SER-FIQ (the paper's), with an ArcFace checkpoint that the user supplies
iresnet    ArcFace's network
table      scores from a CSV file
"""
