"""cgd: train an image-retrieval network, embed folders of pictures, find those like yours.

Everything the command line does is one call from here. Read `cgdcli/model/cgd.py` first.
Names are loaded on demand (PEP 562), so that `import cgdcli` costs nothing and loads no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "CGD": "cgdcli.model.cgd",
    "CGDConfig": "cgdcli.config",
    "CGDError": "cgdcli.errors",
    "ConvertConfig": "cgdcli.config",
    "DuplicatesConfig": "cgdcli.config",
    "EmbedConfig": "cgdcli.config",
    "EmbeddingIndex": "cgdcli.index.store",
    "ExportConfig": "cgdcli.config",
    "ApproximateConfig": "cgdcli.config",
    "MilvusConfig": "cgdcli.config",
    "ProfileConfig": "cgdcli.config",
    "RerankConfig": "cgdcli.config",
    "ScanConfig": "cgdcli.config",
    "SearchConfig": "cgdcli.config",
    "TrainConfig": "cgdcli.config",
    "Transform": "cgdcli.config",
    "VectorConfig": "cgdcli.config",
    "TrialConfig": "cgdcli.config",
    "calibrate_index": "cgdcli.judging.calibrating",
    "check_data": "cgdcli.datasets.checking",
    "compare_files": "cgdcli.inspection",
    "compare_index_quality": "cgdcli.judging.pairing",
    "compare_models": "cgdcli.profiling",
    "compare_runs": "cgdcli.judging.comparison",
    "convert_data_base": "cgdcli.conversion",
    "convert_weights": "cgdcli.conversion",
    "embed_images": "cgdcli.embedding",
    "evaluate": "cgdcli.evaluation",
    "evaluate_vectors": "cgdcli.judging.steps",
    "export_model": "cgdcli.exporting",
    "export_weights": "cgdcli.conversion",
    "find_duplicates": "cgdcli.auditing.duplicates",
    "index_approximately": "cgdcli.indexing",
    "inspect_file": "cgdcli.inspection",
    "judge_reranking": "cgdcli.judging.reranking",
    "load_model": "cgdcli.weights.loading",
    "plan_conversion": "cgdcli.conversion",
    "profile_model": "cgdcli.profiling",
    "search_each": "cgdcli.retrieval",
    "search_images": "cgdcli.retrieval",
    "send_to_milvus": "cgdcli.index.milvus.sending",
    "train": "cgdcli.training.loop",
    "try_readings": "cgdcli.conversion",
}
__all__ = [*sorted(_HOMES), "__version__"]  # noqa: PLE0604

if TYPE_CHECKING:
    from cgdcli.auditing.duplicates import find_duplicates  # noqa: F401
    from cgdcli.config import (  # noqa: F401
        ApproximateConfig,
        CGDConfig,
        ConvertConfig,
        DuplicatesConfig,
        EmbedConfig,
        ExportConfig,
        MilvusConfig,
        ProfileConfig,
        RerankConfig,
        ScanConfig,
        SearchConfig,
        TrainConfig,
        Transform,
        TrialConfig,
        VectorConfig,
    )
    from cgdcli.conversion import (  # noqa: F401
        convert_data_base,
        convert_weights,
        export_weights,
        plan_conversion,
        try_readings,
    )
    from cgdcli.datasets.checking import check_data  # noqa: F401
    from cgdcli.embedding import embed_images  # noqa: F401
    from cgdcli.errors import CGDError  # noqa: F401
    from cgdcli.evaluation import evaluate  # noqa: F401
    from cgdcli.exporting import export_model  # noqa: F401
    from cgdcli.index.milvus.sending import send_to_milvus  # noqa: F401
    from cgdcli.index.store import EmbeddingIndex  # noqa: F401
    from cgdcli.indexing import index_approximately  # noqa: F401
    from cgdcli.inspection import compare_files, inspect_file  # noqa: F401
    from cgdcli.judging.calibrating import calibrate_index  # noqa: F401
    from cgdcli.judging.comparison import compare_runs  # noqa: F401
    from cgdcli.judging.pairing import compare_index_quality  # noqa: F401
    from cgdcli.judging.reranking import judge_reranking  # noqa: F401
    from cgdcli.judging.steps import evaluate_vectors  # noqa: F401
    from cgdcli.model.cgd import CGD  # noqa: F401
    from cgdcli.profiling import compare_models, profile_model  # noqa: F401
    from cgdcli.retrieval import search_each, search_images  # noqa: F401
    from cgdcli.training.loop import train  # noqa: F401
    from cgdcli.weights.loading import load_model  # noqa: F401


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
