"""One trained detector on several datasets, into one table.

python run.py --config=configs/cross.py --workdir=DIR --config.celeb_df_v2.manual_dir=COPY \
    --config.wild.manual_dir=COPY --config.folder.dir=FOLDER

DIR is the folder of a finished run, FOLDER one of your own with real/ and fake/ inside. A dataset
whose place is not given is left out. Only test splits are prepared, and faces are found and cropped
as the detector's own were, unless a dataset is of ready crops. The table is DIR/eval/cross.csv; all
else of a dataset is in DIR/eval/NAME.

Hardware: any. Time: not measured here; most of it is the preparation of the test splits.
Result: not measured here. The paper reports no evaluation across datasets.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The datasets of the table, by name; their options stand in for the trained run's own."""
    config = ConfigDict()
    config.cross = True  # for the command line: no training
    config.ffpp_c23 = _dataset("ffpp", bench_json="", compression="c23", methods=CLASSIC)
    config.ffpp_c40 = _dataset("ffpp", bench_json="", compression="c40", methods=CLASSIC)
    dfd = ("DeepFakeDetection",)
    config.dfd = _dataset("ffpp", bench_json="", compression="c23", methods=dfd)
    config.celeb_df_v2 = _dataset("celeb_df", bench_json="")
    config.wild = _dataset("wild_deepfake", detector="none")
    config.folder = ConfigDict({"dataset": "face_folder", "detector": "", "dir": ""})
    return config


CLASSIC = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures")


def _dataset(dataset: str, detector: str = "", **options) -> ConfigDict:
    """A builder of datasets/, where the copy of its data lies, and how its faces are found.

    detector: empty for the trained detector's own way.
    """
    common = {"manual_dir": "", "incomplete": False}
    return ConfigDict({"dataset": dataset, "detector": detector} | common | options)
