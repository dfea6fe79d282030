"""Batches: pairs that differ by the forgery alone, the same stream however it is read."""

import itertools
import multiprocessing

import numpy as np
import pytest

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.fidelity.scale import FidelityScale
from deepfidelity_jax.forgeries import augment, families
from deepfidelity_jax.images.pictures import decode_image
from deepfidelity_jax.quality.measure import Measure
from deepfidelity_jax.records.schema import FAKE, ORIGINAL, REAL, SOURCES, Records
from deepfidelity_jax.training.batches import (
    ForgedPair,
    TrainingInput,
    evaluation_batches,
    training_batches,
    training_input,
)

SIZE = 96  # nine tokens


def open_batches(folder, tiny, *, forged=True, seed=3, size=SIZE, **options):
    tiny.model.image_size = size
    records = Records(folder, SOURCES if forged else "train")
    options = {"batch_size": 4} | options
    return training_batches(
        records, training_input(tiny, folder), forged=forged, seed=seed, **options
    )


def take(batches, count):
    return list(itertools.islice(batches, count))


def assert_same(one, other):
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert a.keys() == b.keys()
        for key in a:
            np.testing.assert_array_equal(a[key], b[key], err_msg=key)


def test_a_batch_is_what_it_says(records_folder, tiny):
    for forged in (True, False):
        for batch in take(open_batches(records_folder, tiny, forged=forged), 4):
            assert {key: (value.shape, value.dtype.name) for key, value in batch.items()} == {
                "image": ((4, SIZE, SIZE, 3), "uint8"),
                "label": ((4,), "int32"),
                "fidelity": ((4,), "float32"),
                "forged": ((4, 9), "float32"),
            }
            real = batch["label"] == REAL
            assert (batch["forged"][real] == 0).all()
            assert (batch["forged"][~real].max(axis=1) > 0).all()
            assert batch["forged"].max() <= 1
            low, high = np.where(real, 0.6, 0.0), np.where(real, 1.0, 0.4)
            assert (low - 1e-6 <= batch["fidelity"]).all()
            assert (batch["fidelity"] <= high + 1e-6).all()
            if forged:
                np.testing.assert_array_equal(batch["label"], [REAL, FAKE] * 2)
            else:  # what a recorded forgery altered is unknown
                assert (batch["forged"][~real] == 1).all()


def test_a_pair_differs_most_in_the_forged_part(records_folder, tiny):
    """Crop, flip, colours, noise and erasing are one draw for both.

    Some real pictures lose quality alone, so a few differ elsewhere, too.
    """
    outside, inside = [], []
    for batch in take(open_batches(records_folder, tiny), 16):
        real, fake = (batch["image"][i::2].astype(float) for i in (0, 1))
        change = np.abs(real - fake).mean(axis=-1).reshape(-1, 3, 32, 3, 32).mean(axis=(2, 4))
        tokens = batch["forged"][1::2].reshape(-1, 3, 3)
        outside += change[tokens == 0].tolist()
        inside += change[tokens > 0.8].tolist()
    assert len(outside) > 5
    assert len(inside) > 10
    assert np.median(outside) < 1.5
    assert np.mean(np.array(outside) < 4) > 0.7
    assert np.median(inside) > 2 * np.median(outside)


def test_a_view_of_a_face_keeps_its_fidelity(records_folder, tiny):
    """However it is cropped, turned and coloured: the target is that of the record."""
    tiny.augment.degrade_p = tiny.augment.recompress_p = 0.0
    tiny.augment.jitter, tiny.augment.erase_p = 0.4, 1.0
    records = Records(records_folder, "train")
    found = take(open_batches(records_folder, tiny, forged=False), len(records) // 4)
    found = np.concatenate([batch["fidelity"] for batch in found])
    expected = [records[i]["fidelity"] for i in range(len(records))]
    np.testing.assert_allclose(np.sort(found), np.sort(expected), atol=1e-5)


def test_same_seed_same_batches(records_folder, tiny):
    first = take(open_batches(records_folder, tiny), 3)
    assert_same(first, take(open_batches(records_folder, tiny), 3))
    other = take(open_batches(records_folder, tiny, seed=4), 3)
    assert (first[0]["image"] != other[0]["image"]).any()


@pytest.mark.parametrize("forged", [True, False])
def test_every_epoch_shows_every_record_and_draws_anew(records_folder, tiny, forged):
    """Augmentation off, size as recorded: what remains is the order, and the forgery."""
    tiny.augment.update(augment.AugmentSettings.off().__dict__)
    records = Records(records_folder, SOURCES if forged else "train")
    pictures = {decode_image(records[i]["image"]).tobytes() for i in range(len(records))}
    epochs = []
    batches = open_batches(records_folder, tiny, forged=forged, size=64)
    for _ in range(2):
        images = [b["image"] for b in take(batches, len(records) * (2 if forged else 1) // 4)]
        epochs.append(np.concatenate(images))
    if not forged:
        assert [{image.tobytes() for image in epoch} for epoch in epochs] == [pictures] * 2
        assert (epochs[0] != epochs[1]).any(), "another order"
    else:
        fakes = [{image.tobytes() for image in epoch[1::2]} for epoch in epochs]
        assert len(fakes[0] | fakes[1]) == 2 * len(records), "another forgery"


@pytest.mark.parametrize("forged", [True, False])
def test_processes_divide_the_stream(records_folder, tiny, forged):
    """What two processes read together is what one reads: the draws, and the order of the rows."""
    whole = take(open_batches(records_folder, tiny, forged=forged, batch_size=8), 3)
    halves = [
        take(open_batches(records_folder, tiny, forged=forged, batch_size=8, process=(i, 2)), 3)
        for i in (0, 1)
    ]
    for batch, *parts in zip(whole, *halves, strict=True):
        for key, value in batch.items():
            together = np.concatenate([part[key] for part in parts])
            np.testing.assert_array_equal(together, value)


@pytest.mark.parametrize(("size", "forged"), [(6, True), (3, False)])
def test_a_batch_that_cannot_be_divided_is_refused(records_folder, tiny, size, forged):
    with pytest.raises(InputError, match=f"batch_size is {size}: give a multiple of"):
        open_batches(records_folder, tiny, batch_size=size, forged=forged, process=(0, 2))


def test_goes_on_from_any_batch_with_any_number_of_workers(records_folder, tiny):
    whole = take(open_batches(records_folder, tiny), 6)
    assert_same(take(open_batches(records_folder, tiny, start=3), 3), whole[3:])
    assert_same(take(open_batches(records_folder, tiny, start=3, workers=2), 3), whole[3:])
    share = open_batches(records_folder, tiny, start=3, process=(1, 2))
    assert_same(take(share, 3), [{k: v[2:] for k, v in batch.items()} for batch in whole[3:]])


def test_worker_processes_change_nothing(records_folder, tiny):
    """Nor does a SIGTERM to their whole group: it is the parent that saves and stops."""
    alone = take(open_batches(records_folder, tiny), 20)
    before = {*multiprocessing.active_children()}  # of another test
    batches = open_batches(records_folder, tiny, workers=2)
    first = take(batches, 2)  # both are at work
    workers = {*multiprocessing.active_children()} - before
    assert len(workers) == 2
    for worker in workers:
        worker.terminate()
    assert_same(first + take(batches, 18), alone)  # more than were read ahead


def test_evaluation_reads_in_order(records_folder):
    records = Records(records_folder, "test")
    rows = [records[i] for i in range(len(records))]
    expected = np.stack([augment.center_crop(decode_image(r["image"]), 32, 0.9) for r in rows])
    batches = list(evaluation_batches(records, 32, 0.9, 7))
    sizes = [len(batch["image"]) for batch in batches]
    assert sizes[:-1] == [7] * (len(records) // 7)
    assert sizes[-1] == len(records) % 7
    np.testing.assert_array_equal(np.concatenate([batch["image"] for batch in batches]), expected)
    for name in ("video_id", "frame", "label", "landmarks"):
        column = np.concatenate([batch[name] for batch in batches])
        assert column.tolist() == [np.asarray(row[name]).tolist() for row in rows]


def test_families_left_out_are_not_drawn(records_folder, tiny, monkeypatch):
    drawn, make_pair = set(), families.make_pair

    def noted(family, *arguments, **options):
        drawn.add(family)
        return make_pair(family, *arguments, **options)

    monkeypatch.setattr(families, "make_pair", noted)
    tiny.train.leave_out = tuple(set(families.FAMILIES) - {"inpainted", "swap"})
    take(open_batches(records_folder, tiny), 12)
    assert drawn == {"inpainted", "swap"}
    tiny.train.leave_out = tuple(families.FAMILIES)
    with pytest.raises(InputError, match="leaves no family of forgeries"):
        take(open_batches(records_folder, tiny), 1)


def test_a_donor_is_of_another_video_and_other_people():
    """Whatever is drawn; nobody where all faces are of one video."""
    made_from = TrainingInput(
        32, augment.AugmentSettings.off(), FidelityScale((0.0, 1.0), (0.0, 1.0)), Measure("iso")
    )
    people = {"a": "person/1", "b": "person/2", "c": "", "d": "person/3 person/1"}
    records = [
        {"video_id": name, "frame": frame, "origins": people[name], "path": f"{name}.mp4"}
        for name in people for frame in range(3)
    ]  # fmt: skip

    def donors(records):
        pair = ForgedPair(records, made_from)
        found = [pair._find_donor(records[0], np.random.default_rng(seed)) for seed in range(50)]
        return [donor and donor["video_id"] for donor in found]

    assert set(donors(records)) == {"b", "c"}
    assert donors(records[:3]) == [None] * 50
    again = records[0] | {"video_id": "a#1"}  # another face of the same file, or lost and found
    assert donors([*records[:3], again]) == [None] * 50
    few = [*records[:3] * 50, *records[3:9], *records[9:] * 50]  # hardly met by chance
    found = donors(few)
    assert None not in found
    assert set(found) == {"b", "c"}
    assert found == donors(few), "the generator decides"


def test_a_face_without_a_donor_is_told_before_training():
    """Where only families that need one are left: of three videos one shares people with both."""
    people = {"a": "person/1", "b": "person/2", "c": "person/1 person/2"}
    records = [
        {"video_id": name, "origins": origins, "path": f"{name}.mp4"}
        for name, origins in people.items()
    ]

    def require(records, left_out):
        made_from = TrainingInput(
            32, augment.AugmentSettings.off(), FidelityScale((0.0, 1.0), (0.0, 1.0)),
            Measure("iso"), leave_out=left_out,
        )  # fmt: skip
        ForgedPair(records, made_from).require_families()

    alone = tuple(set(families.FAMILIES) - set(families.NEED_DONOR))
    require(records[:2], alone)
    require(records, alone[1:])
    with pytest.raises(InputError, match="leaves no family .* without the face of another person"):
        require(records, alone)
    with pytest.raises(InputError, match="leaves no family of forgeries to train on$"):
        require(records, tuple(families.FAMILIES))


def test_balance_by_method_draws_every_family_equally_often(records_folder, tiny, monkeypatch):
    drawn, make_pair = [], families.make_pair

    def noted(family, *arguments, **options):
        drawn.append(family)
        return make_pair(family, *arguments, **options)

    monkeypatch.setattr(families, "make_pair", noted)
    monkeypatch.setitem(families.SHARES, "inpainted", 0.9)
    tiny.train.leave_out = tuple(set(families.FAMILIES) - {"inpainted", "self_blend"})
    tiny.train.balance = "method"
    take(open_batches(records_folder, tiny), 12)
    assert 0.3 < drawn.count("inpainted") / len(drawn) < 0.7


def test_masks_are_made_where_they_are_asked_for(records_folder, tiny):
    tiny.train.mask_weight = 1.0
    for batch in take(open_batches(records_folder, tiny), 2):
        assert batch["mask"].shape == (4, SIZE // 8, SIZE // 8)
        tokens = batch["mask"].reshape(4, 3, 4, 3, 4).mean(axis=(2, 4)).reshape(4, -1)
        np.testing.assert_allclose(tokens, batch["forged"], atol=1e-5)


def test_methods_left_out_of_records(records_folder):
    records = Records(records_folder, "train")
    methods = {record["method"] for record in records if record["label"] == FAKE}
    gone, *kept = sorted(methods)
    rest = records.without((gone,))
    assert {record["method"] for record in rest} == {ORIGINAL, *kept}
    assert len(rest) == sum(record["method"] != gone for record in records)
    assert records.without(()) is records
    with pytest.raises(InputError, match=r"leaves one class in the train split: it holds"):
        records.without(methods)
