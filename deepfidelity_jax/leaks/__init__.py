"""What would make a test score a lie: a video, a person, or nearly a frame, in two splits.

Before training, a video, a person, or the same picture in two splits stops the run. Frames of two
splits that look alike are reported: they may be one video under two names. Before evaluation, no
test picture may be one that the detector was trained on.
"""
