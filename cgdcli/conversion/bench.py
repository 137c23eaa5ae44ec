"""The rows that many readings of one file make of the same pictures, in as few passes as can be."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cgdcli.config import CGDConfig, TrialConfig
from cgdcli.engines.torch_engine import torch_device
from cgdcli.errors import ImageError
from cgdcli.images.decoding import read_image
from cgdcli.images.transforms import eval_pixels
from cgdcli.model.cgd import CGD, normalize_pixels
from cgdcli.reports import SkippedImage
from cgdcli.streaming import OnProgress, nothing_readable
from cgdcli.weights.checkpoint import Checkpoint

Rows = NDArray[np.float32]


class Bench:
    """Embeds pictures by any reading of a checkpoint.

    Args:
        total: pictures times backbone passes that will be asked for, for `on_progress`.
    """

    def __init__(
        self, checkpoint: Checkpoint, trial: TrialConfig, total: int, on_progress: OnProgress | None
    ) -> None:
        self._checkpoint, self._batch_size = checkpoint, trial.batch_size
        self._device = torch_device(trial.device)
        self._networks: dict[str, CGD] = {}
        self._done, self._total, self._on_progress = 0, total, on_progress

    @torch.inference_mode()
    def rows(self, configs: Sequence[CGDConfig], files: Sequence[Path]) -> list[Rows]:
        """Unit rows (N, D) by each config; the configs differ in letters and p alone."""
        first = configs[0]
        network = self._network(first)
        parts: list[list[Rows]] = [[] for _ in configs]
        for pixels in self._batches(files, first.transform.image_size):
            feature_map = network.backbone(normalize_pixels(pixels.to(self._device), first))
            for part, config in zip(parts, configs, strict=True):
                network.config = config  # letters and p; the weights are the same
                part.append(network.head(feature_map).embedding.cpu().numpy())
            self._done += len(pixels)
            if self._on_progress:
                self._on_progress(self._done, self._total, 0)
        return [np.concatenate(part) for part in parts]

    def _network(self, config: CGDConfig) -> CGD:
        """One network a stride; their tensors are the same memory."""
        if config.stride not in self._networks:
            at_stride = replace(self._checkpoint.config, stride=config.stride)
            model = replace(self._checkpoint, config=at_stride).model()
            self._networks[config.stride] = model.to(self._device)
        return self._networks[config.stride]

    def _batches(self, files: Sequence[Path], size: int) -> Iterator[torch.Tensor]:
        for start in range(0, len(files), self._batch_size):
            block = files[start : start + self._batch_size]
            yield torch.from_numpy(np.stack([eval_pixels(read_image(f)[0], size) for f in block]))


def readable(files: Sequence[Path]) -> tuple[list[int], list[SkippedImage]]:
    """Positions of the pictures that can be read, and the others with the reason.

    Raises:
        DatasetError: none can be.
    """
    good: list[int] = []
    skipped: list[SkippedImage] = []
    for position, file in enumerate(files):
        try:
            read_image(file)
            good.append(position)
        except ImageError as error:
            skipped.append(SkippedImage(str(file), error.what.replace(f"`{file}` ", "")))
        except OSError as error:
            skipped.append(SkippedImage(str(file), f"cannot be read: {error.strerror}"))
    if not good:
        raise nothing_readable(len(files), skipped)
    return good, skipped


def spread(count: int, wanted: int) -> list[int]:
    """At most `wanted` of the positions 0 ... count - 1, evenly spaced."""
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, wanted))})


def sample_classes(labels: Sequence[str], wanted: int) -> list[int]:
    """Positions of about `wanted` pictures: evenly spaced classes, at most eight pictures each.

    A class of one picture has no partner and is left out.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for position, label in enumerate(labels):
        members[label].append(position)
    groups = [[group[i] for i in spread(len(group), 8)] for group in members.values()]
    groups = [group for group in groups if len(group) > 1]
    mean = sum(map(len, groups)) / max(1, len(groups))
    picked = spread(len(groups), max(2, int(wanted / mean))) if groups else []
    return sorted(position for i in picked for position in groups[i])
