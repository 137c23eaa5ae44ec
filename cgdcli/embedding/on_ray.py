"""Job: an index in parts, made by the workers of a Ray cluster.

A part is a task. Ray gives it to another worker when one dies, and that one goes on from what the
first had brought to the disk: a part is kept through a kill by itself. Pictures, model and index
must be on a disk that all machines see under the same name.
"""

import contextlib
import json
import logging
import os
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cgdcli.embedding import EmbedRequest, checked_output, make_part, prepared
from cgdcli.embedding.sharding import check_agreeing, whole_report
from cgdcli.errors import CGDError, ConfigError, OutputError
from cgdcli.index.shards import Shard, check_layout, numbers_of_parts, shards
from cgdcli.locks import lock_of
from cgdcli.networks import known_network
from cgdcli.remote import address_of, shown
from cgdcli.reports import EmbedReport
from cgdcli.words import counted

logger = logging.getLogger("cgdcli")

AUTO = "auto"
# A worker that is killed is no failure; a picture that kills every worker is one.
RETRIES = 5
SECONDS_TO_ANSWER = 10.0


def embed_on_ray(
    request: EmbedRequest, parts: int | None = None, address: str = AUTO
) -> EmbedReport:
    """Embed into an index in parts, each a task of a Ray cluster.

    A task takes one CPU and computes with one thread, or one GPU where the cluster has any.

    Args:
        parts: None for as many as there are already, else as many as can be made at once.
        address: of the cluster: `host:port`, `ray://host:port`, `local` for one that is started on
            this machine and ends with this call, `auto` for the one that `$RAY_ADDRESS` names or
            that runs here, else `local`.

    Raises:
        ConfigError: Ray is not installed, no cluster is at that address, `--precision auto`, or
            pictures or index are at an address of their own (s3://).
        OutputError: a part could not be made by any worker.
        CGDError: as `embed_images`.
    """
    started = time.monotonic()
    remote = [shown(path) for path in (*request.sources, request.output) if address_of(path)]
    if remote:
        raise ConfigError(
            f"--ray: `{remote[0]}` is an address, and workers read and write a disk that all see",
            hint="make parts of it by jobs that need not know each other: --shard 0/16 ...",
        )
    check_agreeing(request.config)
    target = checked_output(request.output)
    # The model is chosen here: $CGD_MODEL and the newest run may be others on other machines.
    network = known_network(request.model)
    if request.model is None:
        request = replace(request, model=network.info.source)
    with _cluster(address) as ray:
        every = shards(parts or _number_there(target) or _at_once(ray))
        check_layout(target, every)
        logger.info("%s, made by Ray's workers", counted(len(every), "part"))
        reports = _made(ray, request, every)
    return whole_report(target, reports, time.monotonic() - started)


@contextlib.contextmanager
def _cluster(address: str) -> Iterator[Any]:
    """Ray, connected; one that is connected already is used as it is."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody unasked
    try:
        import ray
    except ImportError:
        raise ConfigError(
            "--ray: Ray is not installed", hint="pip install 'cgdcli[ray]', or leave --ray out"
        ) from None
    if ray.is_initialized():
        yield ray
        return
    on_sigterm = signal.getsignal(signal.SIGTERM)
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    try:
        _check_answers(address)
        ray.init(address=address, **quiet)
    except (OSError, ValueError, RuntimeError) as error:
        if address != AUTO or os.environ.get("RAY_ADDRESS"):
            raise ConfigError(
                f"--ray: no cluster answers at {os.environ.get('RAY_ADDRESS', address)}: "
                f"{getattr(error, 'strerror', None) or str(error).splitlines()[0]}",
                hint="start one with `ray start --head`, or take --ray local",
            ) from error
        ray.init(address="local", include_dashboard=False, **quiet)
    with contextlib.suppress(ValueError):  # not the main thread, where Ray leaves signals alone
        signal.signal(signal.SIGTERM, on_sigterm)  # Ray's prints a trace, and says nothing of ours
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_answers(address: str) -> None:
    """Raise `OSError` unless somebody listens at `host:port`: Ray itself would try for a minute."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), SECONDS_TO_ANSWER).close()


def _made(ray: Any, request: EmbedRequest, every: Sequence[Shard]) -> list[EmbedReport]:
    """What the tasks return, in order of the parts; the first failure ends all."""
    gpus = int(ray.cluster_resources().get("GPU", 0))
    resources = {"num_gpus": 1} if gpus and request.config.device != "cpu" else {"num_cpus": 1}
    task = ray.remote(max_retries=RETRIES, **resources)(_make)
    asked, here = ray.put(request), str(Path.cwd())
    waiting = {task.remote(asked, shard, here): shard for shard in every}
    reports: dict[Shard, EmbedReport] = {}
    try:
        while waiting:
            (ready,), _ = ray.wait(list(waiting), num_returns=1)
            shard = waiting.pop(ready)
            reports[shard] = _report_of(ray, ready, shard)
            rows = counted(reports[shard].rows, "row")
            logger.info("part %s: %s (%d of %d parts)", shard, rows, len(reports), len(every))
    finally:
        for left in waiting:
            ray.cancel(left, force=True)
    return [reports[shard] for shard in every]


def _report_of(ray: Any, ready: Any, shard: Shard) -> EmbedReport:
    try:
        report: EmbedReport = ray.get(ready)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, CGDError):
            raise error.cause from error
        raise
    except ray.exceptions.RayError as error:
        raise OutputError(
            f"part {shard} could not be made: each of {RETRIES + 1} workers died at it "
            f"({str(error).splitlines()[0]})",
            hint=f"make it alone to see why: --shard {shard}; what they did is kept",
        ) from error
    return report


def _make(request: EmbedRequest, shard: Shard, folder: str) -> EmbedReport:
    """What a worker does: one part, seen from the folder that the user is in."""
    os.environ["LOCAL_WORLD_SIZE"] = str(os.cpu_count() or 1)  # one core's share of the threads
    if not Path(folder).is_dir():
        raise OutputError(
            f"the folder `{folder}` is not there on {socket.gethostname()}, one of the cluster",
            hint="pictures, model and index must be on a disk that all of its machines see",
        )
    with contextlib.chdir(folder):
        release_of_the_dead(shard.path(checked_output(request.output)))
        return make_part(prepared(request, [shard]), shard)


def release_of_the_dead(target: Path) -> None:
    """Remove the lock of a writer whose machine the cluster has lost.

    The lock of another machine is believed otherwise, as that one cannot be asked.
    """
    import ray

    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        owner = str(json.loads(lock_of(target).read_bytes())["host"])
        nodes = [(node["Alive"], node["NodeManagerHostname"]) for node in ray.nodes()]
        if (False, owner) in nodes and (True, owner) not in nodes:
            lock_of(target).unlink(missing_ok=True)


def _number_there(target: Path) -> int:
    numbers = numbers_of_parts(target)
    return numbers[0] if len(numbers) == 1 else 0


def _at_once(ray: Any) -> int:
    """How many tasks the cluster runs at once."""
    resources = ray.cluster_resources()
    return max(1, int(resources.get("GPU", 0)) or int(resources.get("CPU", 0)))
