"""The published sizes of the benchmarks' splits, and how a folder compares with them."""

from cgdcli.config import Dataset
from cgdcli.datasets.splits import Splits
from cgdcli.datasets.table import ImageTable

# Pictures and classes. Song et al. 2016 (arXiv 1511.06452) for the first three; Liu et al. 2016
# (DeepFashion) for In-shop.
PUBLISHED = {
    Dataset.cub: {"train": (5_864, 100), "test": (5_924, 100)},
    Dataset.cars: {"train": (8_054, 98), "test": (8_131, 98)},
    Dataset.sop: {"train": (59_551, 11_318), "test": (60_502, 11_316)},
    Dataset.inshop: {
        "train": (25_882, 3_997),
        "query": (14_218, 3_985),
        "gallery": (12_612, 3_985),
    },
}


def counts(table: ImageTable | None, name: str = "train") -> dict[str, tuple[int, int]]:
    """Pictures and classes of a split; of query and gallery apart where they are told apart."""
    if table is None:
        return {}
    if not table.is_query:
        return {name: (len(table), len(table.classes))}
    return {
        role: (len(rows), len({table.labels[i] for i in rows}))
        for role, rows in (("query", table.queries), ("gallery", table.gallery))
    }


def with_published(splits: Splits) -> Splits:
    """The splits of a benchmark with a note on how their sizes compare with the published ones."""
    wanted = PUBLISHED[splits.kind]
    found = counts(splits.train) | counts(splits.test, "test")
    if found == wanted:
        words = "; ".join(f"{name} {_words(size)}" for name, size in found.items())
        return splits.with_notes(f"{words}: the published counts")
    return splits.with_notes(
        *(
            f"{name} has {_words(found.get(name, (0, 0)))}; published are {_words(size)}: figures "
            "cannot be compared with published ones"
            for name, size in wanted.items()
            if found.get(name) != size
        )
    )


def _words(size: tuple[int, int]) -> str:
    return f"{size[0]} pictures of {size[1]} classes"
