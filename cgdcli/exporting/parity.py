"""Whether a written graph computes what PyTorch computes: numbers, neighbours, any batch."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch

from cgdcli.config import ExportConfig
from cgdcli.engines import Rows
from cgdcli.errors import CheckpointError, DatasetError
from cgdcli.exporting.graphs import GraphFormat, Run, first_line
from cgdcli.exporting.pictures import Sample, noise
from cgdcli.images.decoding import Pixels
from cgdcli.images.loading import batched
from cgdcli.index.exact import TIE_BAND, nearest
from cgdcli.model.cgd import CGD
from cgdcli.reports import GraphParity

_BATCH = 8


def prove(
    form: GraphFormat, file: Path, network: CGD, sample: Sample, config: ExportConfig
) -> GraphParity:
    """Compare a written graph with its network, on the CPU.

    Raises:
        CheckpointError: it does not run, or the numbers or neighbours differ too much.
        DatasetError: fewer than two pictures of the sample can be read.
    """
    run = form.load(file)
    size = network.config.transform.image_size
    tried = (noise(count, size) for count in config.batch_sizes)
    differences = [_difference(*rows) for rows in _both(form, run, network, tried)]
    pairs = list(_both(form, run, network, map(np.stack, batched(sample.pixels(), _BATCH))))
    if sum(len(exact) for exact, _ in pairs) < 2:
        raise DatasetError(
            f"of `{sample.folder}` fewer than two pictures can be read: {sample.skipped[0].path} "
            f"{sample.skipped[0].reason}",
            hint="name another folder, or leave --images out",
        )
    exact, found = (np.concatenate(rows) for rows in zip(*pairs, strict=True))
    parity = GraphParity(
        difference=max(*differences, _difference(exact, found)),
        tolerance=config.tolerance,
        batch_sizes=config.batch_sizes,
        pictures=len(exact),
        neighbours=same_neighbours(exact, found),
        images=sample.folder,
        skipped=tuple(sample.skipped),
    )
    _judge(form, network, parity, config)
    return parity


def same_neighbours(exact: Rows, found: Rows) -> float:
    """Share of pictures whose nearest other one by `found` is that by `exact`, or as similar.

    Args:
        exact, found: (N, D) unit rows of the same pictures, at least 2.
    """
    own = [{row} for row in range(len(exact))]
    similarities, _ = nearest(exact, exact, 1, exclude=own)
    _, theirs = nearest(found, found, 1, exclude=own)
    reached = np.vecdot(exact.astype(np.float64), exact[theirs[:, 0]].astype(np.float64))
    return float((reached >= similarities[:, 0] - TIE_BAND).mean())


def _both(
    form: GraphFormat, run: Run, network: CGD, batches: Iterable[Pixels]
) -> Iterator[tuple[Rows, Rows]]:
    """PyTorch's rows and the graph's of each batch."""
    for pixels in batches:
        exact = network.embed(torch.from_numpy(pixels)).numpy()
        if not np.isfinite(exact).all():
            raise CheckpointError(
                "the model gives NaN or infinity",
                hint="its weights are damaged: `cgd inspect MODEL`, or train again",
            )
        try:
            found = run(pixels)
        except Exception as error:  # of a runtime: RuntimeError, or kinds of its own
            raise CheckpointError(
                f"{network.config.backbone} as {form.name} does not run on a batch of "
                f"{len(pixels)}: {first_line(error)}",
                hint="nothing was written; try the other format (.onnx, .xml)",
            ) from error
        if found.shape != exact.shape:
            raise CheckpointError(
                f"{network.config.backbone} as {form.name} answers a batch of {len(pixels)} with "
                f"{found.shape}; {exact.shape} is wanted",
                hint="nothing was written; try the other format (.onnx, .xml)",
            )
        yield exact, found


def _difference(exact: Rows, found: Rows) -> float:
    """The largest; infinite where the graph gives what is no number."""
    apart = float(np.abs(exact - found).max())
    return apart if np.isfinite(apart) else float("inf")


def _judge(form: GraphFormat, network: CGD, parity: GraphParity, config: ExportConfig) -> None:
    what = f"{network.config.backbone} as {form.name} differs from PyTorch"
    if parity.difference > config.tolerance:
        raise CheckpointError(
            f"{what} by {parity.difference:.2g}; at most {config.tolerance:g} is wanted",
            hint="nothing was written; try the other format (.onnx, .xml), or a larger --tolerance",
        )
    if parity.neighbours < config.neighbours:
        raise CheckpointError(
            f"{what} in the nearest neighbour of {100 * (1 - parity.neighbours):.1f} % of "
            f"{parity.pictures} pictures; at most {100 * (1 - config.neighbours):g} % is allowed",
            hint="nothing was written; try the other format (.onnx, .xml)",
        )
