"""What a verdict rests on: functions of a detector and face crops.

heat      where a face's fidelity comes from
removal   pixels removed in a given order, to test such a map
symmetry  what the first stage makes of a face and its mirror image
"""
