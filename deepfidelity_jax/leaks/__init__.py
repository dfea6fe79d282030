"""Leaks: test data that was seen in training, which makes a test score meaningless.

- `shared_sources`, before training: a video, a person or a picture in two splits stops the run.
- `look_alikes`: frames in different splits that look alike are reported; they may be one video
  under two names.
- `training_pictures`, before evaluation: a test picture used in the detector's training stops it.
- `stages`: what a run does of this, once for the same records and options.
"""
