"""A self-contained HTML page on one photograph or video, and the video annotated with scores.

page         write_page: examine, explain, write
people       each person's timeline and the faces shown
faces        the pictures of a face: crop, heat map, mirror image, symmetry map
doubts       how certain the verdict is, and why
scale        the fidelity scale, with validation's real and fake faces
credentials  what Content Credentials (C2PA) in the file claim
outputs      the pages and the annotated video that a command writes
annotate     the video with boxes, person numbers and scores
sound        the sound of the input, copied into that video
wording      numbers, times and names as text that is safe to show
"""
