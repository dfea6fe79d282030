"""From raw data to TFDS records: aligned face crops with a label, a quality and a fidelity target.

A dataset in datasets/ lists its sources (videos, photographs, archives) and turns each into faces;
this package does the rest.

- What is in a record? `schema.features`.
- What does a dataset provide? `source`: a `Source`, and the `Face`s `Produced` from it.
- How does a fake get its target? `write.record`, by the scale fitted in `write.fit_targets`.
- What happens to a damaged video? `benchmark_video.Extractor` gives no faces and the reason. A file
  that crashes the process reading it is caught in `staging`. `write.split_generators` prints the
  reasons, notes them in the dataset's metadata.json, and lists every input without a record in
  left_out.csv beside it.
- How does a killed preparation resume? `staging`: one file of faces per source.
- What do the benchmarks share? `benchmark_builder`, `benchmark_video`, and `deepfakebench` for
  copies in that format. `beam` stages on a cluster.
"""
