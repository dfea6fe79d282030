"""Every option once, with its default. Other configs are this one plus the lines that differ.

python run.py --config=configs/default.py --workdir=DIR [--config.group.option=value ...]

What each may be is in deepfidelity_jax/options.py, and checked before anything is done. Several
values are written in brackets, --config.augment.crop_scale="(0.6, 1.0)"; `~` is expanded in paths.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The default configuration: our own recipe, sized for a small accelerator."""
    config = ConfigDict()
    config.seed = 0
    config.init_from = ""  # weights to start from: a workdir, or a file with the official names

    # What is learnt from. `dataset` names a builder in datasets/.
    config.data = ConfigDict()
    config.data.dataset = "face_folder"
    config.data.dir = ""  # face_folder: the folder of photographs or videos
    config.data.real_folder = ""  # face_folder: where its real faces are, if not in real/
    config.data.fake_folder = ""  # and its fakes, if not in fake/; both inside `dir` or anywhere
    # face_folder, what no two splits may have of: file, folder (frames of a video), prefix:REGEX
    # (what the names begin with); empty: file, unless there is reason to ask.
    config.data.group = ""
    config.data.records_dir = ""  # where TFDS records are written; empty: <workdir>/records
    config.data.identities = 64  # synthetic_faces: people rendered
    config.data.clips = 3  # synthetic_faces: clips of each
    config.data.splits = (0.75, 0.10, 0.15)  # training, validation, test; of their sum
    config.data.manual_dir = ""  # ffpp, celeb_df, wild_deepfake: your copy, as distributed
    config.data.bench_json = ""  # ffpp, celeb_df: DeepfakeBench's list, where its frames are held
    config.data.compression = "c23"  # ffpp: raw, c23 or c40
    config.data.methods = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures")  # ffpp
    config.data.prepare = ("train", "validation", "test")  # of the three; ("test",) to score alone
    config.data.incomplete = False  # take what is there of a copy that lacks something
    config.data.beam = ""  # options of an Apache Beam pipeline that finds the faces
    config.data.fresh_forgeries = True  # draw forgeries anew each epoch where the builder can
    config.data.workers = 0  # input processes; 0: threads of this one

    # How faces are found, cropped and aligned, in preparation and prediction alike.
    config.faces = ConfigDict()
    config.faces.detector = "cascade"  # cascade, yunet, or none for ready crops
    config.faces.yunet = ""  # path of the YuNet ONNX file
    config.faces.margin = 1.3  # side of the crop over the detector's box
    config.faces.size = 160  # side of a recorded crop in pixels
    config.faces.frames = 32  # evenly spaced frames of a video

    # What training must not see, looked for in the records before it starts.
    config.leaks = ConfigDict()
    config.leaks.allow = ()  # leaks to go on with, by the names the check gives them

    # Image quality, and the fidelity made of it (paper, section 3).
    config.quality = ConfigDict()
    config.quality.measure = "iso"  # iso, ser_fiq, csv, or none for plain labels
    config.quality.weights = ""  # your ArcFace checkpoint for the measure ser_fiq
    config.quality.csv = ""  # rows of path,score for the measure csv
    config.fidelity = ConfigDict()
    config.fidelity.fake = (0.0, 0.4)  # range of a forged face's fidelity
    config.fidelity.real = (0.6, 1.0)
    config.fidelity.percentile = 0.0  # clip this share (in percent) of the quality at both ends
    # The support vector regressor, by scikit-learn's names. Softer and wider than its defaults (1,
    # 0.1, 1): with folder.py, frame AUC of validation photographs 0.939 instead of 0.934.
    config.fidelity.C = 0.1
    config.fidelity.epsilon = 0.05  # the paper has 0.1, too wide to follow quality in a class
    config.fidelity.gamma = 0.1  # in units of 'scale', 1 / (d * variance)
    config.fidelity.balance = 1.0  # 1: real and fake faces weigh the same; 0: every face does
    config.fidelity.tune = False  # choose C, epsilon and gamma by cross-validation on training data

    # SSAAFormer.
    config.model = ConfigDict()
    config.model.variant = "base"  # large, base, small, tiny
    config.model.image_size = 224  # any multiple of 32
    config.model.symmetric = (-1, 0, 0, 0)  # mirrored blocks of each stage; -1: all of them
    # Side that is scored, as a share of the recorded crop's: as large as training sees it (the root
    # of augment.crop_scale), for traces of a forgery come at one scale. On views of half to all of
    # the area, frame AUC of validation photographs 0.939 at 0.9, the paper's, and 0.899 at 1.0;
    # same weights.
    config.model.eval_crop = 0.9
    config.model.drop_path = 0.1
    config.model.dtype = "float32"  # of the computation; state stays float32

    # Augmentation, on the host.
    config.augment = ConfigDict()
    config.augment.crop_scale = (0.6, 1.0)  # random resized crop: share of the area
    config.augment.crop_ratio = (0.85, 1.18)  # and width over height
    config.augment.flip_p = 0.5
    config.augment.rand_layers = 0  # RandAugment: transforms in a row; 0: none
    config.augment.rand_magnitude = 9.0
    config.augment.rand_std = 0.5
    config.augment.jitter = 0.2  # strength of brightness, contrast and saturation changes
    config.augment.degrade_p = 0.2  # share of faces that lose quality, in the ways of degrade.py
    config.augment.degrade_strength = 0.4  # at most
    config.augment.recompress_p = 0.3
    config.augment.recompress_quality = (40, 100)
    config.augment.erase_p = 0.1
    config.augment.erase_area = (0.02, 0.2)

    # Training.
    config.train = ConfigDict()
    config.train.steps = 20_000  # 0: none, for a workdir of converted weights
    config.train.batch_size = 64
    config.train.learning_rate = 5e-4
    config.train.end_learning_rate = 1e-5
    config.train.warmup_steps = 500  # half of the schedule at most, however many are given
    config.train.warmup_start = 0.0  # learning rate of the first step
    config.train.schedule_steps = 0  # what the schedule is made for; 0: all steps of the run
    config.train.schedule_every = 1  # steps between changes of the learning rate
    config.train.weight_decay = 0.05
    config.train.clip_norm = 1.0  # 0: gradients are not clipped
    config.train.label_smoothing = 0.1
    config.train.token_weight = 3.0  # loss of the token head, labelled by the forged area
    config.train.token_mixing = "none"  # a box of patches swapped between images: none, or with
    # the labels following (labelled) or not (unlabelled)
    config.train.fidelity_weight = 5.0  # loss of the auxiliary fidelity head; 0: no such head
    config.train.ranking_weight = 3.0  # loss of every real face against every fake of its batch
    config.train.whitening = True  # start the first patch embedding as a whitening of the faces
    config.train.shard_state = False  # split parameters and optimizer state over the devices
    config.train.accumulate = 1  # parts a batch is taken in, one after another, to save memory
    config.train.remat = False  # keep only the input of each block for the gradient
    config.train.ema_decay = 0.999
    config.train.ema_warmup = True  # forget the initial weights soon
    config.train.log_every = 50
    config.train.eval_every = 1000  # and after the last step
    config.train.checkpoint_every = 500
    config.train.select_on = "validation"  # split the best checkpoint is picked on, or test
    config.train.keep = 2  # newest checkpoints kept, beside the best on `select_on`

    # Evaluation and prediction.
    config.eval = ConfigDict()
    config.eval.batch_size = 64
    config.eval.bootstrap = 1000  # replicates behind every interval; 0: no intervals
    config.eval.official_scoring = False  # also score as the paper's code does, under its own name
    return config
