"""One self-contained HTML page on one photograph or video, and the video with its scores drawn in.

page         write_page: examine, explain, write
people       each person's timeline and the faces shown
faces        the pictures of a face: crop, heat map, mirror image, symmetry map
doubts       how certain the verdict is, why, and what makes it less certain
scale        the fidelity scale, with validation's real and fake faces
credentials  what Content Credentials (C2PA) in the file claim
outputs      where the pages of a command go
annotate     the video with boxes, person numbers and scores
sound        the sound of the input, copied into that video
wording      numbers, times and names as text that is safe to show
"""
