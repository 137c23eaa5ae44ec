"""The small members of torchvision's families, and what comes after their maps."""

from torchvision import models

from cgdcli.model.torchvision_trunks import torchvision_network

# One of each way of being built, at a size at which it is quick.
SMALL = {
    "alexnet": 64,
    "convnext_tiny": 32,
    "densenet121": 32,
    "efficientnet_b0": 32,
    "efficientnet_v2_s": 32,
    "googlenet": 64,
    "inception_v3": 96,
    "maxvit_t": 224,
    "mnasnet0_5": 32,
    "mobilenet_v2": 32,
    "mobilenet_v3_small": 32,
    "regnet_x_400mf": 32,
    "regnet_y_400mf": 32,
    "shufflenet_v2_x0_5": 32,
    "squeezenet1_1": 32,
    "swin_t": 64,
    "swin_v2_t": 64,
    "vgg11": 32,
    "vit_b_32": 224,
}
# What torchvision computes from the map, by what its network has.
_BY_MEAN = ("densenet", "mnasnet", "mobilenet_v2", "shufflenet")


def original(name, size=224):
    """torchvision's own network, in eval mode, with the names and layers of a published file."""
    if name in ("googlenet", "inception_v3"):
        return getattr(models, name)(weights=None, init_weights=True, transform_input=True).eval()
    return torchvision_network(name, size).eval()


def logits_of_map(name, network, feature_map):
    """The rest of torchvision's network, applied to a map."""
    if name.startswith(("squeezenet", "maxvit")):
        return network.classifier(feature_map).flatten(1)
    if name.startswith(_BY_MEAN):
        last = network.fc if hasattr(network, "fc") else network.classifier
        return last(feature_map.mean((2, 3)))
    pooled = network.avgpool(feature_map)
    if name.startswith("convnext"):
        return network.classifier(pooled)
    last = next(getattr(network, n) for n in ("fc", "head", "classifier") if hasattr(network, n))
    return last(pooled.flatten(1))
