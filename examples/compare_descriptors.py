"""Which descriptors suit my pictures before any training? compare_descriptors.py CLASSES MODEL

Pools the last map of MODEL's backbone by every descriptor and prints Recall@1 and mAP@R.
"""

import sys
from dataclasses import replace

from cgdcli import CGD, evaluate, load_model


def main(classes: str, model_name: str) -> None:
    trained = load_model(model_name)
    for letters in ("S", "M", "G", "R", "C", "W", "SG", "SMG"):
        config = replace(trained.config, descriptors=letters, embedding_dim=None, classes=0)
        pooled = CGD(config)
        pooled.backbone.load_state_dict(trained.backbone.state_dict())
        quality = evaluate(classes, model=pooled)
        print(f"{letters:4s} R@1 {quality.recall[1]:.4f}  mAP@R {quality.map_at_r:.4f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
