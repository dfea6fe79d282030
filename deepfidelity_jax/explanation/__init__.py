"""What a verdict is based on: functions of a detector and face crops.

heat      which parts of a face its fidelity comes from
removal   pixels removed in a given order, to test such a map
symmetry  how the first stage's output differs for a face and its mirror image
"""
