"""What is made of a network's answer before it is a row of an index: views, projection, dtype."""

from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any, Self

from cgdcli.config.checks import check_choice, check_range
from cgdcli.config.network import IMAGE_SIZES
from cgdcli.errors import ConfigError, MismatchError

LEAST_SCALE, LARGEST_SCALE = 0.1, 8.0


class RowType(StrEnum):
    """What an index holds its rows in."""

    float32 = "float32"
    float16 = "float16"


@dataclass(frozen=True)
class VectorConfig:
    """Better vectors, or smaller ones; recorded in an index and applied to its queries.

    Attributes:
        flip: a picture and its mirror image are embedded, and averaged.
        scales: a picture is embedded at each of these multiples of the network's image size,
            rounded to whole pixels, and averaged. Kept in rising order.
        whiten: PCA-whitening, learned on the rows of the index; see `index.whitening`.
        dim: columns that PCA leaves; None for all of them.
        dtype: float16 halves the file; of 2940 queries one changed its Recall@1.
    """

    flip: bool = False
    scales: tuple[float, ...] = (1.0,)
    whiten: bool = False
    dim: int | None = None
    dtype: RowType = RowType.float32

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", check_choice("dtype", self.dtype, RowType))
        object.__setattr__(self, "scales", tuple(sorted(float(scale) for scale in self.scales)))
        if not self.scales:
            raise ConfigError("--scales names no scale; at least one is wanted", hint="try 0.7,1")
        for scale in self.scales:
            check_range("--scales", scale, LEAST_SCALE, LARGEST_SCALE)
        if self.dim is not None:
            check_range("--dim", self.dim, 1, 1_000_000)

    @property
    def views(self) -> int:
        """Forward passes that a picture takes."""
        return len(self.scales) * (2 if self.flip else 1)

    @property
    def projects(self) -> bool:
        """Whether a projection is learned on the rows of an index."""
        return self.whiten or self.dim is not None

    def sizes(self, image_size: int) -> tuple[int, ...]:
        """Height and width in pixels of each scale.

        Raises:
            ConfigError: two scales are the same number of pixels, or one is too few or too many.
        """
        found = tuple(round(scale * image_size) for scale in self.scales)
        least, largest = IMAGE_SIZES
        if found[0] < least or found[-1] > largest:
            raise ConfigError(
                f"--scales {self._scales()} are {', '.join(map(str, found))} pixels at this "
                f"network's {image_size}; {least} to {largest} are wanted",
                hint="choose scales nearer to 1",
            )
        if len({*found}) < len(found):
            raise ConfigError(
                f"--scales {self._scales()} are {', '.join(map(str, found))} pixels at this "
                f"network's {image_size}; each scale is a size of its own",
                hint="choose scales farther apart, such as 0.7,1,1.4",
            )
        return found

    def compute(self, image_size: int) -> float:
        """Pixels that a picture's forward passes see, as a multiple of the plain one's."""
        passes = 2 if self.flip else 1
        return passes * sum(size**2 for size in self.sizes(image_size)) / image_size**2

    def stored_dim(self, dim: int) -> int:
        """Columns of an index, of a network's `dim`.

        Raises:
            ConfigError: more are wanted than there are, or as many and they are not whitened.
        """
        if self.dim is None:
            return dim
        if self.dim > dim or (self.dim == dim and not self.whiten):
            raise ConfigError(
                f"--dim {self.dim}: the network's embeddings have {dim} columns, and PCA cuts them "
                "to fewer",
                hint="choose a smaller --dim, or leave it out to keep them all",
            )
        return self.dim

    def __str__(self) -> str:
        """As options: `--flip --scales 0.7,1,1.4`; empty where all is as it comes."""
        said = ["--flip"] if self.flip else []
        said += [f"--scales {self._scales()}"] if self.scales != (1.0,) else []
        said += ["--whiten"] if self.whiten else []
        said += [f"--dim {self.dim}"] if self.dim is not None else []
        said += [f"--dtype {self.dtype}"] if self.dtype is not RowType.float32 else []
        return " ".join(said)

    def _scales(self) -> str:
        return ",".join(f"{scale:g}" for scale in self.scales)

    def to_dict(self) -> dict[str, Any]:
        """For an index's header, as JSON gives it back."""
        return asdict(self) | {"scales": list(self.scales), "dtype": self.dtype.value}

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> Self:
        """The inverse; an index of before knew none of it.

        Raises:
            MismatchError: saved by a version that knows more.
        """
        unknown = sorted(saved.keys() - {field.name for field in fields(cls)})
        if unknown:
            raise MismatchError(
                f"an index records {', '.join(unknown)}, which this version of cgd does not know",
                hint="use the version that wrote it",
            )
        return cls(**saved | ({"scales": tuple(saved["scales"])} if "scales" in saved else {}))


def scales_of(text: str) -> tuple[float, ...]:
    """`0.7,1,1.4` as numbers.

    Raises:
        ConfigError: it is no list of numbers.
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(
            f"--scales {text!r} is not a list of numbers", hint="try --scales 0.7,1,1.4"
        ) from None
