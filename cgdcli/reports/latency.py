"""What was measured of a network on this machine."""

from dataclasses import dataclass

from cgdcli.reports.base import Report, SkippedImage


@dataclass(frozen=True)
class LatencyReport(Report):
    """Forward passes at one batch size, from uint8 pictures to embeddings.

    Attributes:
        median_seconds, p95_seconds, p99_seconds: of one pass; below 100 repeats p99 is the slowest.
        low_seconds, high_seconds: the spread of the median between rounds of the run, widened by
            the square root of high / low, a tenth at least: another run's median is expected there.
        outliers: passes above the third quartile by more than 1.5 interquartile ranges (Tukey);
            they are in all figures.
        seconds: every pass, in the order of running.
        peak_memory_bytes: what `peak_memory_of` names.
    """

    batch_size: int
    device: str
    engine: str
    precision: str
    threads: int
    warmup: int
    repeats: int
    median_seconds: float
    p95_seconds: float
    p99_seconds: float
    low_seconds: float
    high_seconds: float
    images_per_second: float
    outliers: int
    seconds: tuple[float, ...]
    peak_memory_bytes: int
    peak_memory_of: str


@dataclass(frozen=True)
class MachinePeaks(Report):
    """The best that this machine was seen to do, float32: arithmetic and memory traffic."""

    device: str
    threads: int
    gflops_per_second: float
    gigabytes_per_second: float
    how: str


@dataclass(frozen=True)
class StageSpeed(Report):
    """How fast a stage ran, and what limits it (roofline model, Williams et al. 2009).

    Attributes:
        seconds: median of the stage for one batch.
        flops, traffic_bytes: of the batch; traffic is inputs, outputs and weights of each of its
            layers once, the least that a layer-by-layer run moves.
        intensity: FLOPs per byte.
        of_bound: achieved share of the roofline's bound at that intensity.
        limited_by: compute, memory, or overhead where it stays far below both.
    """

    name: str
    seconds: float
    flops: int
    traffic_bytes: int
    intensity: float
    gflops_per_second: float
    gigabytes_per_second: float
    of_bound: float
    limited_by: str


@dataclass(frozen=True)
class FolderReport(Report):
    """Where the time goes when a folder is embedded.

    Attributes:
        found: pictures in the folder; `measured` of them were timed, one at a time, in one thread.
        decode_seconds, transform_seconds, forward_seconds: mean of one picture.
        images_per_second: of the real pipeline, reading ahead in `workers` threads.
        expected_seconds, index_bytes: for all pictures found.
    """

    folder: str
    found: int
    measured: int
    workers: int
    batch_size: int
    decode_seconds: float
    transform_seconds: float
    forward_seconds: float
    images_per_second: float
    expected_seconds: float
    index_bytes: int
    skipped: tuple[SkippedImage, ...]
