"""From a workdir to verdicts."""
