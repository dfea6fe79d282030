"""Every option with its default. The other configs are this one plus the lines that differ.

python run.py --config=configs/default.py --config.data.dir=FOLDER --workdir=DIR
    [--config.group.option=value ...]

deepfidelity_jax/options/table.py says what each option may be; values are checked before any work
starts. Write several values in brackets, --config.augment.crop_scale="(0.6, 1.0)". `~` is expanded
in paths.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The default configuration: our own recipe, sized for a small accelerator."""
    config = ConfigDict()
    config.seed = 0
    # Weights to start from: bundled, a workdir, a folder for a hub, or a file with official names.
    config.init_from = ""

    # The data. `dataset` names a builder in datasets/.
    config.data = ConfigDict()
    config.data.dataset = "face_folder"
    config.data.dir = ""  # face_folder: the folder of photographs or videos
    # manifest: a table of paths and labels; `dir` is the folder that its paths are relative to, if
    # not the table's own.
    config.data.manifest = ""
    config.data.real_label = ""  # manifest: 0 or 1, the label of real faces if labels are numbers
    config.data.real_folder = ""  # face_folder: folder of the real faces, if not real/
    config.data.fake_folder = ""  # and of the fakes, if not fake/; inside `dir` or elsewhere
    # face_folder: what stays in one split: file, folder (frames of a video), or prefix:REGEX (files
    # whose names begin alike); empty: file, but folders that look like videos stop the run.
    config.data.group = ""
    config.data.records_dir = ""  # where TFDS records are written; empty: <workdir>/records
    config.data.identities = 64  # synthetic_faces: number of people
    config.data.clips = 3  # synthetic_faces: clips per person
    config.data.splits = (0.75, 0.10, 0.15)  # training, validation, test; relative to their sum
    config.data.manual_dir = ""  # ffpp, celeb_df, wild_deepfake: your copy, as distributed
    config.data.bench_json = ""  # ffpp, celeb_df: DeepfakeBench's list, for a copy of frames
    config.data.compression = "c23"  # ffpp: raw, c23 or c40
    config.data.methods = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures")  # ffpp
    # Splits to prepare; ("test",) only to score.
    config.data.prepare = ("train", "validation", "test")
    config.data.incomplete = False  # use a copy even if it is incomplete
    config.data.beam = ""  # options of an Apache Beam pipeline to find the faces
    # Draw new forgeries each epoch, if the dataset makes its own.
    config.data.fresh_forgeries = True
    config.data.workers = 0  # input processes; 0: threads in this process

    # How faces are found, cropped and aligned, in preparation and prediction alike.
    config.faces = ConfigDict()
    config.faces.detector = "mtcnn"  # mtcnn, yunet, cascade, or none if the images are crops
    config.faces.yunet = ""  # path of the YuNet ONNX file
    config.faces.margin = 1.3  # side of the crop, relative to the detector's box
    config.faces.size = 160  # side of a recorded crop, in pixels
    config.faces.frames = 32  # evenly spaced frames per video

    # Leaks between splits; the records are checked for them before training.
    config.leaks = ConfigDict()
    config.leaks.allow = ()  # leaks to accept, by the names the check gives them

    # Image quality, and the fidelity computed from it (paper, section 3).
    config.quality = ConfigDict()
    config.quality.measure = "iso"  # iso, learned, trace, ser_fiq, csv or none
    config.quality.weights = ""  # your ArcFace checkpoint for the measure ser_fiq
    config.quality.csv = ""  # file with rows of path,score, for the measure csv
    config.fidelity = ConfigDict()
    config.fidelity.fake = (0.0, 0.4)  # range of the fidelity of fakes
    config.fidelity.real = (0.6, 1.0)  # and of real faces
    config.fidelity.percentile = 0.0  # share of the qualities clipped at either end, in percent
    config.fidelity.mapping = "linear"  # from quality to fidelity; or rank, even within a class
    # Qualities are compared with those of the same class, as in the paper, or of both classes.
    config.fidelity.quality_range = "class"
    # The regressor from features to fidelity: svr (the paper's), kernel_ridge, gaussian_process,
    # ridge, gradient_boosting, random_forest, nearest_neighbours or mlp. Or a head of the network,
    # to which nothing is fitted: logits, class_head, fidelity_head or ordinal_head.
    config.fidelity.regressor = "svr"
    # The support vector regressor, in scikit-learn's terms. Softer and wider than its defaults of
    # 1, 0.1 and 1: with folder.py, frame AUC on validation photographs 0.939 instead of 0.934.
    config.fidelity.C = 0.1
    config.fidelity.epsilon = 0.05  # the paper's 0.1 is too wide to follow quality within a class
    config.fidelity.gamma = 0.1  # of every kernel, in units of 'scale', 1 / (d * variance)
    config.fidelity.balance = 1.0  # 1: both classes have equal weight; 0: all faces do
    config.fidelity.tune = False  # choose the regressor's settings by cross-validation
    config.fidelity.calibration = "platt"  # from fidelity to p_fake: or isotonic, beta, temperature

    # SSAAFormer.
    config.model = ConfigDict()
    config.model.variant = "base"  # large, base, small, tiny
    config.model.image_size = 224  # any multiple of 32
    config.model.symmetric = (-1, 0, 0, 0)  # symmetric blocks in each stage; -1: all
    # Side of the central crop that is scored, relative to the recorded crop. Faces should be as
    # large as in training (the root of augment.crop_scale), since traces of a forgery depend on
    # scale. With the same weights, trained on half to all of the area, the frame AUC on validation
    # photographs is 0.939 at 0.9 (the paper's value) and 0.899 at 1.0.
    config.model.eval_crop = 0.9
    config.model.drop_path = 0.1
    config.model.dtype = "float32"  # of the computation; the state is float32
    # Average what the network says of a face and of its mirror image; takes twice the time.
    config.model.mirror_average = False

    # Augmentation, on the host.
    config.augment = ConfigDict()
    config.augment.crop_scale = (0.6, 1.0)  # random resized crop: share of the area,
    config.augment.crop_ratio = (0.85, 1.18)  # and width over height
    config.augment.flip_p = 0.5
    config.augment.rand_layers = 0  # RandAugment: transforms per image; 0: none
    config.augment.rand_magnitude = 9.0
    config.augment.rand_std = 0.5
    config.augment.jitter = 0.2  # strength of brightness, contrast and saturation changes
    config.augment.degrade_p = 0.2  # share of faces degraded, see forgeries/degrade.py
    config.augment.degrade_strength = 0.4  # upper limit
    config.augment.recompress_p = 0.3
    config.augment.recompress_quality = (40, 100)
    config.augment.erase_p = 0.1
    config.augment.erase_area = (0.02, 0.2)

    # Training.
    config.train = ConfigDict()
    config.train.steps = 20_000  # 0: no training, for converted weights
    config.train.batch_size = 64
    config.train.optimizer = "adamw"  # or muon
    config.train.learning_rate = 5e-4
    config.train.end_learning_rate = 1e-5
    config.train.warmup_steps = 500  # capped at half of the schedule
    config.train.warmup_start = 0.0  # learning rate at the first step
    config.train.schedule_steps = 0  # length of the schedule; 0: all steps
    config.train.schedule_every = 1  # steps between changes of the learning rate
    config.train.weight_decay = 0.05
    config.train.clip_norm = 1.0  # 0: no clipping
    config.train.label_smoothing = 0.1
    config.train.token_weight = 3.0  # loss of the token head, with labels from the forged area
    # Swap a box of patches between images: none, labelled (labels follow) or unlabelled. Mixed
    # images have no ranking and no mask loss.
    config.train.token_mixing = "none"
    config.train.fidelity_weight = 5.0  # loss of the auxiliary fidelity head; 0: no head
    # Loss of a head that predicts fidelity in grades (the regressor ordinal_head); 0: no head.
    config.train.ordinal_weight = 0.0
    config.train.ranking_weight = 3.0  # loss over all pairs of a real face and a fake in a batch
    # Loss of heads that find the forged pixels in stages 2 and 3; 0: no heads.
    config.train.mask_weight = 0.0
    # Methods excluded from training, validation and the regressor, but still tested:
    # families of forgeries, or a benchmark's methods. The scale of fidelity targets is fitted to
    # all fakes of the training split.
    config.train.leave_out = ()
    # Curriculum, within each class: none, quality (the best pictures first) or loss (the lowest
    # losses first); all records take part after curriculum_steps.
    config.train.curriculum = "none"
    config.train.curriculum_steps = 0
    # Draw records by their fidelity error, or without a fidelity head by their loss, to this power.
    config.train.mining = 0.0  # 0: equally
    config.train.balance = "none"  # draw each class, or each method, equally: none, class, method
    config.train.whitening = True  # initialise the first patch embedding to whiten the faces
    config.train.shard_state = False  # shard parameters and optimizer state over the devices
    config.train.accumulate = 1  # parts a batch is processed in, to save memory
    config.train.remat = False  # recompute each block for the gradient, to save memory
    config.train.ema_decay = 0.999
    config.train.ema_warmup = True  # forget the initial weights sooner
    config.train.log_every = 50
    config.train.eval_every = 1000  # and after the last step
    config.train.checkpoint_every = 500
    config.train.select_on = "validation"  # split that picks the best checkpoint; or test
    config.train.keep = 2  # newest checkpoints kept, besides the best one

    # Evaluation and prediction.
    config.eval = ConfigDict()
    config.eval.batch_size = 64
    config.eval.bootstrap = 1000  # replicates for each interval; 0: no intervals
    config.eval.official_scoring = False  # also score as the paper's code does
    # What intervals draw: video, or person where the records name them.
    config.eval.cluster = "video"
    # From frames to a video: mean, median, top_share (mean of the least real frames), or
    # least_person (the least real of a file's people).
    config.eval.aggregate = "mean"
    config.eval.top_share = 0.1  # share of the frames that top_share takes
    # For the operating points in metrics.json; these do not change the verdict.
    config.eval.wanted_fpr = 0.01  # share of real videos that may be below it
    config.eval.cost_missed = 1.0  # cost of one missed fake,
    config.eval.cost_false_alarm = 1.0  # and of one real video below it, in any unit
    config.eval.prevalence = 0.5  # share of fakes where the detector is used
    return config
