"""What a reduced precision has shown on a sample is remembered, for the same sample alone.

To show it anew takes 200 pictures in fp32: of 600 that are embedded in int8, longer than all the
rest. It lies beside the compiled networks and, like them, may be deleted at any time.
"""

import contextlib
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from cgdcli.config import EmbedConfig
from cgdcli.embedding.parity import Parity
from cgdcli.engines.openvino_engine import cache_folder, computed_by
from cgdcli.errors import CGDError
from cgdcli.files import atomic_path

# The last used; one takes 100 bytes.
KEPT = 200


def sample_key(network: str, files: Sequence[Path], config: EmbedConfig) -> str | None:
    """A name for all that the figures depend on; None where a picture is gone.

    Args:
        network: fingerprint, or the digest of a quantized one.
    """
    try:
        stats = [(str(file.absolute()), file.stat()) for file in files]
    except OSError:
        return None
    pictures = [(path, stat.st_size, stat.st_mtime_ns) for path, stat in stats]
    asked = (config.precision.value, config.engine.value, config.device.value, config.exact_decode)
    said = (network, computed_by(), asked, config.batch_size, str(config.vectors), pictures)
    return hashlib.sha256(repr(said).encode()).hexdigest()[:32]


def remembered(key: str | None) -> Parity | None:
    """The figures of such a sample, if they were taken before."""
    if key is None:
        return None
    file = _folder() / f"{key}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        found = Parity.from_dict(json.loads(file.read_text()))
        file.touch()
        return found
    return None


def remember(key: str | None, parity: Parity) -> None:
    """Keep them; a folder that cannot be written to is no failure."""
    if key is None:
        return
    with contextlib.suppress(OSError, CGDError):
        _folder().mkdir(parents=True, exist_ok=True)
        with atomic_path(_folder() / f"{key}.json") as temporary:
            temporary.write_text(json.dumps(parity.to_dict()))
        kept = sorted(_folder().glob("*.json"), key=lambda f: f.stat().st_mtime, reverse=True)
        for old in kept[KEPT:]:
            old.unlink(missing_ok=True)


def _folder() -> Path:
    return cache_folder().with_name("parity")
