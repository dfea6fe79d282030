"""Experiments of several runs, each an ordinary run in its own workdir.

`leave_one_out` trains once without each forgery method, `ablation` over a grid of options, with its
`ablation_table`. `verification` repeats a run and compares. `robustness` degrades the test faces,
`source_videos` recompresses the videos they come from, `robustness_summary` takes mean and worst,
and `robustness_chart` draws the curves.
"""
