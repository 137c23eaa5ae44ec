"""Who makes what of an index: one process all of it, one its part, or several their shares."""

from cgdcli.embedding import EmbedRequest, embed_whole
from cgdcli.embedding.sharding import embed_parts, embed_shard
from cgdcli.errors import ConfigError
from cgdcli.index.shards import Shard
from cgdcli.reports import EmbedReport
from cgdcli.streaming import OnProgress


def embed_request(
    request: EmbedRequest,
    *,
    shard: Shard | None = None,
    parts: int | None = None,
    on_progress: OnProgress | None = None,
) -> EmbedReport:
    """Embed as asked for: one part, in parts, or the whole as one.

    Under torchrun every process makes its share of the parts; the first one's report is of all.

    Raises:
        ConfigError: both a shard and a number of parts are given.
        CGDError: as `embed_images`.
    """
    if shard is not None and parts is not None:
        raise ConfigError(
            f"--shard {shard} is one of {shard.of} parts, and --parts {parts} makes all of them",
            hint="give one of the two",
        )
    if shard is not None:
        return embed_shard(request, shard, on_progress)
    if parts is not None:
        return embed_parts(request, parts, on_progress)
    return embed_whole(request, on_progress)
