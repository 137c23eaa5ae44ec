"""What a batch shows of a picture: its box, and nothing outside it."""

import numpy as np
import torch
from PIL import Image

from cgdcli.config import TrainConfig
from cgdcli.datasets.table import ImageTable
from cgdcli.images.cropping import Box
from cgdcli.training.batches import BatchReader
from cgdcli.training.sampler import ClassBatches

CONFIG = TrainConfig(image_size=32, batch_size=4, per_class=2, backbone_weights="none", workers=1)


def test_only_the_box_is_trained_on(tmp_path):
    paths, boxes, inside = [], [], {0: (250, 10, 10), 1: (10, 250, 10)}
    for number in range(4):
        picture = Image.new("RGB", (90, 70), "blue")
        picture.paste(inside[number // 2], (20, 10, 60, 50))
        picture.save(tmp_path / f"{number}.png")
        paths.append(tmp_path / f"{number}.png")
        boxes.append(Box(20, 10, 60, 50))
    table = ImageTable(tuple(paths), ("a", "a", "b", "b"), boxes=tuple(boxes))
    batches = ClassBatches(table.class_indices, batch_size=4, per_class=2, seed=0)
    shown = set()
    for pixels, labels, *_ in BatchReader(table, batches, CONFIG, 64).epoch(1):
        for values, label in zip(pixels.numpy(), labels.tolist(), strict=True):
            assert np.array_equal(np.unique(values.reshape(-1, 3), axis=0), [inside[label]])
            shown.add(label)
    assert shown == {0, 1}


def test_a_picture_whose_box_lies_outside_is_skipped_and_named(tmp_path):
    paths = tuple(tmp_path / f"{number}.png" for number in range(4))
    for path in paths:
        Image.new("RGB", (90, 70)).save(path)
    boxes = (None, Box(0, 0, 9, 9), Box(90, 0, 99, 9), None)
    table = ImageTable(paths, ("a", "a", "b", "b"), boxes=boxes)
    batches = ClassBatches(table.class_indices, batch_size=4, per_class=2, seed=0)
    reader = BatchReader(table, batches, CONFIG, 64)
    assert {len(labels) for _, labels, *_ in reader.epoch(1)} == {3}  # each batch has all four
    assert list(reader.skipped) == [paths[2]] and "lies outside" in reader.skipped[paths[2]]


def test_for_a_gpu_both_parts_of_a_batch_are_pinned(tmp_path, monkeypatch):
    """Pinning itself wants CUDA; here it is counted."""
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: pinned.append(self.shape) or self)
    paths = tuple(tmp_path / f"{number}.png" for number in range(4))
    for path in paths:
        Image.new("RGB", (40, 40)).save(path)
    table = ImageTable(paths, ("a", "a", "b", "b"))
    batches = ClassBatches(table.class_indices, batch_size=4, per_class=2, seed=0)
    list(BatchReader(table, batches, CONFIG, 64).epoch(1))
    assert not pinned
    list(BatchReader(table, batches, CONFIG, 64, pin=True).epoch(1))
    assert pinned == [(4, 32, 32, 3), (4,)] * batches.steps
