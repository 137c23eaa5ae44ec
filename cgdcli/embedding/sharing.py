"""Who makes what of an index: one process all of it, one its part, or several their shares."""

from cgdcli.embedding import EmbedRequest, embed_whole
from cgdcli.embedding.sharding import embed_parts, embed_shard
from cgdcli.errors import ConfigError
from cgdcli.index.shards import Shard
from cgdcli.launch import launch
from cgdcli.reports import EmbedReport
from cgdcli.streaming import OnProgress


def embed_request(
    request: EmbedRequest,
    *,
    shard: Shard | None = None,
    parts: int | None = None,
    ray: str | None = None,
    on_progress: OnProgress | None = None,
) -> EmbedReport:
    """Embed as asked for: one part, in parts, or the whole as one.

    Under torchrun every process makes its share of the parts; the first one's report is of all.

    Args:
        ray: the address of a Ray cluster that makes the parts; see `on_ray`.

    Raises:
        ConfigError: both a shard and a number of parts are given, or a shard, or a cluster, to
            several processes.
        CGDError: as `embed_images`.
    """
    launched = launch()
    if shard is not None and parts is not None:
        raise ConfigError(
            f"--shard {shard} is one of {shard.of} parts, and --parts {parts} makes all of them",
            hint="give one of the two",
        )
    if launched.world > 1 and (shard is not None or ray is not None):
        given = "--ray" if shard is None else f"--shard {shard}"
        raise ConfigError(
            f"{given} is for a single process, and torchrun started {launched.world}",
            hint="give --parts, of which each process makes its share",
        )
    if shard is not None and ray is not None:
        raise ConfigError(
            f"--shard {shard} is one part, and --ray shares out all of them",
            hint="give one of the two",
        )
    if shard is not None:
        return embed_shard(request, shard, on_progress)
    if launched.world > 1:
        from cgdcli.embedding.launched import embed_launched  # which imports torch

        return embed_launched(request, launched, parts, on_progress)
    if ray is not None:
        from cgdcli.embedding.on_ray import embed_on_ray

        return embed_on_ray(request, parts, ray)
    if parts is not None:
        return embed_parts(request, parts, on_progress)
    return embed_whole(request, on_progress)
