"""Rows as an index records them: of several views, averaged, and projected. An engine of engines.

Shape letters: B pictures, D columns of the network, d columns of the index.
"""

import copy
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cgdcli.config import CGDConfig, VectorConfig
from cgdcli.engines import Engine, Rows, Source
from cgdcli.errors import CGDError, ConfigError

if TYPE_CHECKING:
    from cgdcli.model.cgd import CGD

Projecting = Callable[[Rows], Rows]
"""Rows (B, D) to unit rows (B, d)."""


class VectorEngine:
    """Embeds a picture at each of `sizes`, and its mirror image where that is wanted.

    Args:
        engines: one for each size, in order; of a kind that takes any size, the same one.
        config: of the network.
        project: what becomes of the averaged rows; None: nothing.

    Attributes:
        sizes: height and width in pixels of the arrays that `embed_sizes` takes.
    """

    def __init__(
        self,
        engines: Sequence[Engine],
        vectors: VectorConfig,
        config: CGDConfig,
        project: Projecting | None = None,
    ) -> None:
        self.sizes = vectors.sizes(config.transform.image_size)
        assert len(engines) == len(self.sizes)
        self.config, self.vectors, self.project = config, vectors, project
        self._engines = tuple(engines)
        first = self._engines[0]
        self.name, self.precision = first.name, first.precision
        self.on_cpu, self.parallel = first.on_cpu, first.parallel

    def embed(self, pixels: NDArray[np.uint8]) -> Rows:
        """See `engines.Engine`: of pictures at one size, where there is but one."""
        return self.embed_sizes([pixels])

    def embed_sizes(self, pixels: Sequence[NDArray[np.uint8]]) -> Rows:
        """The same pictures at each size, uint8 (B, size, size, 3), to float32 (B, d), unit."""
        views = [row for both in self.views(pixels) for row in both]
        rows = average_views(views, len(self.config.descriptors))
        if self.project is None:
            return rows
        projected = self.project(rows)
        projected[~rows.any(axis=1)] = 0  # the network said nothing; the mean would say something
        return projected

    def views(self, pixels: Sequence[NDArray[np.uint8]]) -> list[list[Rows]]:
        """For each size the rows (B, D) of the pictures, and of their mirror images.

        In a pass each: a row's last bits depend on how many pictures a pass has.
        """
        found = []
        for engine, given in zip(self._engines, pixels, strict=True):
            rows = [engine.embed(given)]
            if self.vectors.flip:
                rows.append(engine.embed(np.ascontiguousarray(given[:, :, ::-1])))
            found.append(rows)
        return found


def average_views(views: Sequence[Rows], blocks: int) -> Rows:
    """The mean of rows (B, D) of the same pictures, unit again, block by block.

    An embedding is `blocks` unit blocks over the root of their number, and a similarity the mean
    of their cosines: so it stays. A block that is zero in one view counts for nothing there. One
    view alone is as it is.
    """
    if len(views) == 1:
        return views[0]
    total = np.zeros((len(views[0]), blocks, views[0].shape[1] // blocks))
    for rows in views:
        total += _unit(rows.astype(np.float64).reshape(total.shape))
    return _unit(_unit(total).reshape(views[0].shape)).astype(np.float32)


def _unit(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Along the last axis; zero stays zero."""
    lengths = np.sqrt(np.vecdot(values, values))[..., None]
    return values / np.where(lengths > 0, lengths, 1)


class AtSize:
    """A network that is given pictures of another size than its own; its tensors are the same.

    Its fingerprint is one of its own: a graph is compiled for one size (`engines.openvino_engine`),
    since regions and weights of a map are constants in it.
    """

    def __init__(self, source: Source, size: int) -> None:
        self._source = source
        self.fingerprint, self.config = at_size(source.fingerprint, source.config, size)

    @cached_property
    def model(self) -> "CGD":
        """The network, shared with the source, whose configuration stays."""
        model = copy.copy(self._source.model)
        model.config = self.config
        return model


def at_size(fingerprint: str, config: CGDConfig, size: int) -> tuple[str, CGDConfig]:
    """Fingerprint and configuration of a network for pictures of `size` pixels; its own where that
    is its own size."""
    if size == config.transform.image_size:
        return fingerprint, config
    named = hashlib.sha256(f"{fingerprint} at {size} px".encode()).hexdigest()
    return named, replace(config, transform=replace(config.transform, image_size=size))


def vector_engine(
    make: Callable[[int], Engine],
    vectors: VectorConfig,
    config: CGDConfig,
    project: Projecting | None = None,
) -> Engine:
    """The engine of a network's rows as an index has them; the plain one where nothing is done.

    Args:
        make: the engine for a size in pixels.

    Raises:
        ConfigError: the network cannot take pictures of one of the sizes.
    """
    own = config.transform.image_size
    if vectors.views == 1 and vectors.sizes(own) == (own,) and project is None:
        return make(own)
    engines = [checked_engine(make, size, own) for size in vectors.sizes(own)]
    return VectorEngine(engines, vectors, config, project)


def checked_engine(make: Callable[[int], Engine], size: int, own: int) -> Engine:
    """The engine for a size, which has embedded a grey picture if it is not the network's own: some
    transformers have windows or positions for one size alone.

    Raises:
        ConfigError: so has this one.
    """
    engine = make(size)
    if size == own:
        return engine
    try:
        engine.embed(np.full((1, size, size, 3), 128, np.uint8))
        return engine
    except CGDError:
        raise
    except Exception as error:  # whatever a layer raises on a map that it was not made for
        raise ConfigError(
            f"--scales: this network takes pictures of {own} pixels and not of {size} "
            f"({str(error).splitlines()[0] if str(error) else type(error).__name__})",
            hint="leave --scales out; --flip works with any network",
        ) from error
