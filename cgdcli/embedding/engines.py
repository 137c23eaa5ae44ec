"""Which engine embeds, in which precision; and the quantized network that an int8 index keeps."""

import logging
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path

from cgdcli.config import EmbedConfig, EmbedPrecision
from cgdcli.embedding.parity import FEWEST, WANTED, Parity, chosen_precision, samples
from cgdcli.embedding.remembering import remember, remembered, sample_key
from cgdcli.engines import Engine, quantizing
from cgdcli.engines.choosing import lacks_bf16, make_engine, without_int8
from cgdcli.engines.quantized import QuantizedGraph
from cgdcli.engines.vectors import AtSize, vector_engine
from cgdcli.errors import ConfigError, MismatchError
from cgdcli.images.decoding import pixel_limit
from cgdcli.index.kept_graphs import kept_graph
from cgdcli.index.records import IndexHeader, sidecar
from cgdcli.index.unfinished import unfinished
from cgdcli.networks import Network
from cgdcli.streaming import read_pixels

logger = logging.getLogger("cgdcli")

# `auto` quantizes for so many pictures: for fewer it saves less than it costs (ResNet-18: a
# hundredth of a second each, and half a minute once, on two cores).
WORTH_QUANTIZING = 3000


class Engines:
    """The engines that an embedding may compute with, each made when it is first asked for.

    Args:
        files: what is embedded.
        target: the index.
        there: header of the index that is refreshed; None where none is.
        whole: it is one index, not one in parts, which could not keep one quantized network.

    Attributes:
        precision: what was chosen.
        parity: how it agreed with fp32, if it is reduced.
    """

    def __init__(
        self,
        network: Network,
        config: EmbedConfig,
        files: Sequence[Path],
        target: Path,
        there: IndexHeader | None,
        *,
        whole: bool = True,
    ) -> None:
        self.network, self.config, self.target = network, config, target
        same = there is not None and there.model["fingerprint"] == network.fingerprint
        self.there = there if same else None
        self._begun_with = self._kept()
        self._tried = whole and self._int8_is_tried(len(files))
        self.compared, self.calibration = samples(files, calibrates=self._tried)
        self.precision = EmbedPrecision.fp32
        self.parity: Parity | None = None
        self._made: dict[EmbedPrecision, Engine] = {}

    def choose(self) -> None:
        """See `parity.chosen_precision`.

        Raises:
            ConfigError: int8 with `--scales`.
        """
        if self.config.precision is EmbedPrecision.int8 and not self._one_size():
            raise ConfigError(
                f"--precision int8 is calibrated on pictures of "
                f"{self.network.config.transform.image_size} pixels, and --scales has others, too",
                hint="leave --scales out, or choose another --precision",
            )
        with pixel_limit(self.config.max_megapixels):
            key, before = self._key(), self._before()
            candidates = [] if before else self._candidates()
            self.precision, self.parity = chosen_precision(
                self.make, self.compared, self.config, candidates, before or self._shown(key)
            )
        if self.parity is not None and before is None:
            remember(key, self.parity)

    def _candidates(self) -> list[EmbedPrecision]:
        """What `auto` chooses from. OpenVINO is loaded only where that matters."""
        asked = self.config.precision
        if asked not in (EmbedPrecision.auto, EmbedPrecision.bf16):
            return []
        lacking = lacks_bf16(self.config.engine, self.config.device)
        if lacking and asked is EmbedPrecision.bf16:
            logger.warning(
                "this processor has no bf16: --precision bf16 is computed as fp32, and no faster"
            )
        tried = {EmbedPrecision.bf16: not lacking, EmbedPrecision.int8: self._tried}
        return [precision for precision, whether in tried.items() if whether]

    def _before(self) -> tuple[str, dict[str, float] | None] | None:
        return None if self.there is None else (self.there.precision, self.there.parity)

    def _shown(self, key: str | None) -> tuple[str, dict[str, float]] | None:
        """What the precision that is asked for has shown on the same sample, if it was enough."""
        precision, shown = self.config.precision, remembered(key)
        if shown is None or shown.neighbours < WANTED[precision]:
            return None
        return precision.value, shown.to_dict()

    def _key(self) -> str | None:
        """Of the sample, for a precision that is asked for; `auto` has to be timed."""
        if self.there is not None or self.config.precision not in WANTED:
            return None
        int8 = self.config.precision is EmbedPrecision.int8
        if int8 and without_int8(self.config.engine, self.config.device):
            return None  # which is said when it is made
        network = self.quantized.digest if int8 else self.network.fingerprint
        return sample_key(network, self.compared, self.config)

    def chosen(self) -> Engine:
        """The engine of the precision that was chosen, always the same one."""
        return self.make(self.precision)

    def make(self, precision: EmbedPrecision) -> Engine:
        """The engine of a precision."""
        if precision not in self._made:
            make = partial(self._at, precision)
            self._made[precision] = vector_engine(make, self.config.vectors, self.network.config)
        return self._made[precision]

    def _at(self, precision: EmbedPrecision, size: int) -> Engine:
        """The engine for one size of pictures."""
        return make_engine(
            AtSize(self.network, size),
            engine=self.config.engine,
            precision=precision,
            device=self.config.device,
            quantized=lambda: self.quantized,
        )

    def digest(self) -> str | None:
        """What tells the quantized network of an int8 index from others; None of another index."""
        if self.precision is not EmbedPrecision.int8:
            return None
        return self._begun_with[0] if self._begun_with else self.quantized.digest

    @cached_property
    def quantized(self) -> QuantizedGraph:
        """The network in int8: the one that made the rows there are, else calibrated now.

        Raises:
            IndexFileError: the index should hold it, and does not.
            MismatchError: too few pictures to calibrate on.
            ConfigError, CheckpointError: see `quantizing.calibrated`.
        """
        if self._begun_with:
            digest, table = self._begun_with
            return QuantizedGraph(kept_graph(table, digest))
        quantizing.check_installed()
        with pixel_limit(self.config.max_megapixels):
            pixels = read_pixels(
                self.calibration,
                self.network.config,
                workers=self.config.workers,
                exact_decode=self.config.exact_decode,
            )
        if len(pixels) < FEWEST:
            raise MismatchError(
                f"--precision int8 is calibrated on a third of the pictures, 100 at most, and "
                f"{len(pixels)} readable ones are too few; {FEWEST} are wanted",
                hint="leave it out: so few are embedded in no time",
            )
        return quantizing.calibrated(self.network, pixels)

    def new_graph(self) -> QuantizedGraph | None:
        """The quantized network that makes the rows, if the index does not hold it yet."""
        if self.precision is not EmbedPrecision.int8 or self._begun_with:
            return None
        return self.quantized

    def _kept(self) -> tuple[str, Path] | None:
        """Digest and table of the quantized network that made what this run goes on with."""
        begun = unfinished(self.target)
        if begun is not None:
            settings, table = begun
            digest = settings.get("calibration")
            if digest and settings.get("model") == self.network.fingerprint:
                return str(digest), table
        if self.there is not None and self.there.calibration:
            return self.there.calibration, sidecar(self.target)
        return None

    def _one_size(self) -> bool:
        own = self.network.config.transform.image_size
        return self.config.vectors.sizes(own) == (own,)

    def _int8_is_tried(self, pictures: int) -> bool:
        config = self.config
        if config.precision is not EmbedPrecision.auto:
            return config.precision is EmbedPrecision.int8
        worth_it = pictures >= WORTH_QUANTIZING and quantizing.is_installed()
        if self._begun_with is None and not worth_it:
            return False
        return self._one_size() and not without_int8(config.engine, config.device)
