"""Job: an index in parts, made by the processes that torchrun started, each its share.

They embed without talking: no process group, no step that all must reach. At the end each leaves
its report at the launcher's meeting point, and the first one waits for all of them.
"""

import logging
import pickle
import time

from torch.distributed.distributed_c10d import Store

from cgdcli.embedding import EmbedRequest, prepared
from cgdcli.embedding.sharding import check_agreeing, made, whole_report
from cgdcli.engines.choosing import computes_on_cpu
from cgdcli.errors import ConfigError
from cgdcli.index.shards import shards
from cgdcli.launch import Launch
from cgdcli.reports import EmbedReport
from cgdcli.streaming import OnProgress
from cgdcli.training.distributed import meeting_point, take_gpu
from cgdcli.words import counted

logger = logging.getLogger("cgdcli")

SECONDS_BETWEEN_LOOKS = 0.2


def embed_launched(
    request: EmbedRequest,
    launched: Launch,
    parts: int | None = None,
    on_progress: OnProgress | None = None,
) -> EmbedReport:
    """Make this process's share of the parts; a process of several GPUs' machine has its own.

    Args:
        parts: None for one each.

    Returns:
        On the first process of all parts, once all are made; on the others of their own.

    Raises:
        ConfigError: there are more processes than parts or GPUs, or `--precision auto`.
        CGDError: as `embed_images`.
    """
    started = time.monotonic()
    check_agreeing(request.config)
    every = shards(launched.world if parts is None else parts)
    if len(every) < launched.world:
        raise ConfigError(
            f"--parts {len(every)} for {launched.world} processes: some would have nothing to do",
            hint=f"give --parts {launched.world} or more, or start fewer processes",
        )
    if not computes_on_cpu(request.config.device):
        take_gpu(launched.local_rank)
    store = meeting_point(launched.rank, launched.world)
    mine = every[launched.rank :: launched.world]
    if not launched.rank:
        logger.info("%s, made by %d processes", counted(len(every), "part"), launched.world)
    job = prepared(request, mine)
    reports = made(job, mine, on_progress)
    if launched.rank:
        store.set(_key(launched.rank), pickle.dumps(reports).hex())  # text is what it declares
        return reports[0]
    reports += _of_others(store, launched.world)
    return whole_report(job.target, reports, time.monotonic() - started)


def _of_others(store: Store, world: int) -> list[EmbedReport]:
    """What the other processes made, once they have; a slow one is waited for."""
    reports: list[EmbedReport] = []
    for rank in range(1, world):
        # Not `wait`: it hears no signal, and complains of each time that it was for nothing.
        while not store.check([_key(rank)]):
            time.sleep(SECONDS_BETWEEN_LOOKS)
        reports += pickle.loads(bytes.fromhex(store.get(_key(rank)).decode()))
    return reports


def _key(rank: int) -> str:
    return f"cgd embed {rank}"
