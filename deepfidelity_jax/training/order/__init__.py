"""The order in which training sees the records.

`checks` tells whether they can be trained on, `sampling` draws them, `difficulty` measures how hard
each is, and `feed` opens the stream of batches. By default every record is seen once an epoch, in a
shuffled order, and nothing is drawn or measured.
"""
