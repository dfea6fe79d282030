"""The score of a video from the scores of its frames, and which videos belong together."""

from collections.abc import Hashable, Iterable
from itertools import chain

import numpy as np
from jaxtyping import Float, Int

# mean and median of all frames; top_share, the mean of the least real share of frames;
# least_person, the lowest of the people's mean scores.
AGGREGATES = ("mean", "median", "top_share", "least_person")


def mean(score: Float[np.ndarray, "n"], unit: Int[np.ndarray, "n"]) -> Float[np.ndarray, "u"]:
    """Mean score of each unit."""
    count = int(unit.max(initial=-1)) + 1
    return np.bincount(unit, score, minlength=count) / np.bincount(unit, minlength=count)


def median(score: Float[np.ndarray, "n"], unit: Int[np.ndarray, "n"]) -> Float[np.ndarray, "u"]:
    """Median score of each unit; for an even number, the mean of the middle two."""
    ordered, first, size = _sorted(score, unit)
    return (ordered[first + (size - 1) // 2] + ordered[first + size // 2]) / 2


def top_share(
    score: Float[np.ndarray, "n"], unit: Int[np.ndarray, "n"], share: float
) -> Float[np.ndarray, "u"]:
    """Mean of the lowest (least real) share of the scores of each unit, at least one score."""
    ordered, first, size = _sorted(score, unit)
    # Rounded first: 0.1 * 30 is a little more than 3.
    taken = np.maximum(1, np.ceil(np.round(share * size, 9))).astype(np.int64)
    upto = np.concatenate([[0.0], np.cumsum(ordered)])
    return (upto[first + taken] - upto[first]) / taken


def aggregate(
    name: str, score: Float[np.ndarray, "n"], video: Int[np.ndarray, "n"], share: float
) -> Float[np.ndarray, "v"]:
    """The score of each video by the aggregate called `name`; `share` is for `top_share`.

    A video shows one person (a clip of two people is two videos), so `least_person` is the mean
    here; `join_people` then joins the people of a file.
    """
    score = np.asarray(score, np.float64)
    if name == "median":
        return median(score, video)
    return top_share(score, video, share) if name == "top_share" else mean(score, video)


def join_people(
    score: Float[np.ndarray, "p"],
    person: Int[np.ndarray, "n"],
    file: Int[np.ndarray, "n"],
) -> tuple[Int[np.ndarray, "u"], Int[np.ndarray, "p"]]:
    """Join the people whose rows share a file into one unit.

    Args:
      score: of each person.
      person: of each row.
      file: of each row; a forgery made from a file is another file.

    Returns:
      For each unit, its least real person. For each person, the unit; units are numbered by their
      first person.
    """
    connected = np.zeros(len(score), np.int64)
    connected[person] = components(person, file)
    _, first, unit = np.unique(connected, return_index=True, return_inverse=True)
    unit = np.argsort(np.argsort(first))[unit]
    least_real = np.lexsort((score, unit))
    return least_real[np.unique(unit[least_real], return_index=True)[1]], unit


def cluster_sources(
    unit: Int[np.ndarray, "n"], file: Iterable[Hashable], origins: Iterable[str] = ()
) -> Int[np.ndarray, "n"]:
    """The cluster of each row: videos that share a file or an original video.

    A cluster is a video with its forgeries, and more where a forgery was made from two. Clusters
    are in the order of the videos, so that the order of the rows does not matter.

    Args:
      unit: number of the video of each row.
      file: identifies the file of each row.
      origins: names of the original videos of each row, separated by spaces; empty if not known.
    """
    shared = [[name] for name in file]
    for keys, names in zip(shared, origins, strict=False):
        keys += [("origin", name) for name in names.split()]
    number = {name: index for index, name in enumerate(dict.fromkeys(chain(*shared)))}
    row = np.repeat(np.arange(len(shared)), [len(keys) for keys in shared])
    name = np.array([number[name] for name in chain(*shared)], np.int64)
    connected = np.zeros(len(shared), np.int64)
    connected[row] = components(unit[row], name)
    first = np.full(len(name), int(unit.max(initial=0)), np.int64)
    np.minimum.at(first, connected, unit)
    return np.unique(first[connected], return_inverse=True)[1].astype(np.int64)


def components(*columns: Int[np.ndarray, "n"]) -> Int[np.ndarray, "n"]:
    """The number of the connected component of each row; rows that share a value are connected."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    n = len(columns[0])
    rows, values, offset = [], [], n
    for column in columns:
        rows.append(np.arange(n))
        values.append(column + offset)
        offset += int(column.max(initial=-1)) + 1
    edges = np.concatenate(rows), np.concatenate(values)
    graph = coo_matrix((np.ones(len(edges[0])), edges), shape=(offset, offset))
    return connected_components(graph, directed=False)[1][:n].astype(np.int64)


def _sorted(score, unit):
    """Scores in ascending order within each unit, where each unit starts, and its size."""
    order = np.lexsort((score, unit))
    size = np.bincount(unit, minlength=int(unit.max(initial=-1)) + 1)
    return np.asarray(score, np.float64)[order], np.cumsum(size) - size, size
