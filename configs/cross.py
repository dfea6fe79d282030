"""From dataset to dataset: one trained detector scored on several, in one table.

python run.py --config=configs/cross.py --workdir=DIR --config.celeb_df_v2.manual_dir=COPY \
    --config.wild.manual_dir=COPY --config.folder.dir=FOLDER --config.table.manifest=TABLE

DIR is the workdir of a finished run, FOLDER your own folder with real/ and fake/ inside, TABLE a
table of paths and labels, as datasets/manifest reads it: --config.table.dir=FOLDER says what its
paths are relative to, --config.table.real_label=0 or 1 which number means real. A dataset without a
path is left out. Only test splits are prepared. Faces are found and cropped as for the detector's
training, unless a dataset consists of crops. The table is DIR/eval/cross.csv; the other results of
a dataset are in DIR/eval/NAME, and the report shows every dataset by forgery method.

Hardware: any. Time: not measured here; most of it is the preparation of the test splits.
Result: not measured here. We found none across datasets in the paper.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The datasets in the table, by name; their options replace those of the trained run."""
    config = ConfigDict()
    config.cross = True  # for the command line: no training
    config.ffpp_c23 = dataset("ffpp", bench_json="", compression="c23", methods=CLASSIC)
    config.ffpp_c40 = dataset("ffpp", bench_json="", compression="c40", methods=CLASSIC)
    dfd = ("DeepFakeDetection",)
    config.dfd = dataset("ffpp", bench_json="", compression="c23", methods=dfd)
    config.celeb_df_v2 = dataset("celeb_df", bench_json="")
    config.wild = dataset("wild_deepfake", detector="none")
    places = {"dir": "", "group": "", "real_folder": "", "fake_folder": ""}
    config.folder = ConfigDict({"dataset": "face_folder", "detector": ""} | places)
    of_table = {"manifest": "", "dir": "", "real_label": ""}
    config.table = ConfigDict({"dataset": "manifest", "detector": ""} | of_table)
    return config


CLASSIC = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures")


def dataset(builder: str, detector: str = "", **options) -> ConfigDict:
    """A builder in datasets/, the user's copy of its data, and the face detector.

    detector: empty for the one used in training. beam: as for `config.data.beam`.
    """
    common = {"manual_dir": "", "incomplete": False, "beam": ""}
    return ConfigDict({"dataset": builder, "detector": detector} | common | options)
