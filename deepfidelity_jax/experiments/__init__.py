"""Many runs for one answer. Each run is an ordinary one in a workdir of its own.

`leave_one_out` trains once without each method of forgery, `ablation` over a grid of options, and
`verification` repeats a run and compares. `comparisons` holds the statistics of paired runs.
"""
