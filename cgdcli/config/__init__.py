"""What can be chosen, its limits, and every default, once.

The command line reads its defaults from these dataclasses; a checkpoint carries a `CGDConfig` in
its header. No torch here: `cgd --help` imports this module.
"""

from cgdcli.config.backbones import (
    RESNETS,
    TORCHVISION,
    backbone_words,
    check_backbone,
    is_timm,
)
from cgdcli.config.jobs import (
    ConvertConfig,
    DuplicatesConfig,
    EmbedConfig,
    ExportConfig,
    ProfileConfig,
    TrialConfig,
)
from cgdcli.config.milvus import MilvusConfig
from cgdcli.config.names import (
    DESCRIPTOR_NAMES,
    RECALL_RANKS,
    BatchNorm,
    Cache,
    Dataset,
    Device,
    EmbedPrecision,
    EngineName,
    Foreign,
    Head,
    HeadStart,
    Optimizer,
    Precision,
    RankingLoss,
    Recipe,
    Schedule,
    Strict,
    StrideMode,
    Thumbnails,
)
from cgdcli.config.network import CGDConfig, Transform, check_descriptors, pooled_config
from cgdcli.config.search import (
    ApproximateConfig,
    ApproximateKind,
    Rerank,
    RerankConfig,
    ScanConfig,
    SearchConfig,
    ServeConfig,
    branch_weights,
)
from cgdcli.config.training import CANNOT_CHANGE, MAY_CHANGE, RECIPES, TrainConfig
from cgdcli.config.vectors import RowType, VectorConfig

__all__ = [
    "CANNOT_CHANGE",
    "DESCRIPTOR_NAMES",
    "MAY_CHANGE",
    "RECALL_RANKS",
    "RECIPES",
    "RESNETS",
    "TORCHVISION",
    "ApproximateConfig",
    "ApproximateKind",
    "BatchNorm",
    "CGDConfig",
    "Cache",
    "ConvertConfig",
    "Dataset",
    "Device",
    "DuplicatesConfig",
    "EmbedConfig",
    "EmbedPrecision",
    "EngineName",
    "ExportConfig",
    "Foreign",
    "Head",
    "HeadStart",
    "MilvusConfig",
    "Optimizer",
    "Precision",
    "ProfileConfig",
    "RankingLoss",
    "Recipe",
    "Rerank",
    "RerankConfig",
    "RowType",
    "ScanConfig",
    "Schedule",
    "SearchConfig",
    "ServeConfig",
    "Strict",
    "StrideMode",
    "Thumbnails",
    "TrainConfig",
    "Transform",
    "TrialConfig",
    "VectorConfig",
    "backbone_words",
    "branch_weights",
    "check_backbone",
    "check_descriptors",
    "is_timm",
    "pooled_config",
]
