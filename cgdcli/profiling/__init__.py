"""Job: what a network costs: parameters, multiply-accumulates, latency, memory."""

from cgdcli.profiling.counting import count_network, group_layers
from cgdcli.profiling.profile import compare_models, profile_model

__all__ = ["compare_models", "count_network", "group_layers", "profile_model"]
