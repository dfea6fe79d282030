"""FaceForensics++: trained at one compression, tested at the others, such as c23 to c40.

python run.py --config=configs/ffpp.py --config.data.manual_dir=COPY --workdir=DIR
python run.py --config=configs/protocol_compression.py --config.ffpp_c40.manual_dir=COPY \
    --workdir=DIR

The first command trains on c23, or on what --config.data.compression names; a cell of
configs/protocol_ffpp.py is such a run, too. A compression without a path is left out. The table is
DIR/eval/cross.csv; the report also shows every compression by manipulation.
"""

from ml_collections import ConfigDict

from deepfidelity_configs import cross


def get_config() -> ConfigDict:
    """The test split at each compression, as configs/cross.py lists datasets."""
    config = ConfigDict({"cross": True})
    for name in ("raw", "c23", "c40"):
        options = {"bench_json": "", "compression": name, "methods": cross.CLASSIC}
        config[f"ffpp_{name}"] = cross.dataset("ffpp", **options)
    return config
