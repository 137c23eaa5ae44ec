"""Embed a folder once, then ask it: search_folder.py IMAGES QUERY MODEL

MODEL is a checkpoint, a run's folder, or a backbone such as resnet18 (downloaded once).
"""

import sys
from pathlib import Path

from cgdcli import EmbeddingIndex, SearchConfig, embed_images, load_model, search_images


def main(images: str, query: str, model_name: str) -> None:
    model = load_model(model_name)
    index_path = Path("feats.npy")
    if not index_path.exists():
        made = embed_images([images], index_path, model=model)
        print(f"{made.rows} pictures embedded, {len(made.skipped)} skipped")
    index = EmbeddingIndex.open(index_path)
    for answer in search_images(
        [query], index, SearchConfig(k=5, explain=True), model=model
    ).results:
        for hit in answer.hits:
            print(f"{hit.rank}  {hit.similarity:.4f}  {hit.branches}  {hit.path}")


if __name__ == "__main__":
    main(*sys.argv[1:])
