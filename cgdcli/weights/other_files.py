"""What a file is that is no weights file, by its first bytes: most are downloads gone wrong."""

from pathlib import Path

from cgdcli.errors import CheckpointError

# (offset, bytes, what it is, what to do)
_KINDS = (
    (0, b"version https://git-lfs", "a Git LFS pointer, not the file itself", "run `git lfs pull`"),
    (0, b"<", "a web page or XML", "the download gave a page instead; open it, and download again"),
    (0, b"\x1f\x8b", "gzip-compressed", "unpack it first: gunzip"),
    (0, b"\x89PNG", "a PNG picture", "name the weights, such as a .pth"),
    (0, b"\xff\xd8\xff", "a JPEG picture", "name the weights, such as a .pth"),
    (0, b"\x89HDF", "an HDF5 file, as Keras writes", "PyTorch weights are wanted, such as a .pth"),
    (0, b"\x93NUMPY", "a NumPy array", "weights are wanted; `cgd inspect` says what it is"),
    (0, b"SQLite format 3\0", "an SQLite table", "weights are wanted; `cgd inspect` reads indexes"),
    (257, b"ustar", "a tar archive", "unpack it; PyTorch before 0.2 wrote such files, and to "
     "read one runs code: load it with the PyTorch that wrote it, save model.state_dict() again"),
)  # fmt: skip
_ZIP_START = b"PK\x03\x04"
_LONGEST = 512


def other_kind(path: Path) -> CheckpointError | None:
    """The error for a file that is known to be something else, or None."""
    with path.open("rb") as stream:
        start = stream.read(_LONGEST)
    if not start:
        return CheckpointError(f"`{path}` is empty", hint="copy or download it again")
    if not any(start):
        return CheckpointError(
            f"`{path}` begins with zeros and is no weights file: a copy or download that broke off",
            hint="copy or download it again",
        )
    for offset, magic, what, hint in _KINDS:
        if start[offset:].startswith(magic):
            return CheckpointError(f"`{path}` is {what}, not a PyTorch weights file", hint=hint)
    if start.startswith(_ZIP_START):
        return CheckpointError(
            f"`{path}` was cut short or is damaged: it begins like a file of torch.save and the "
            "end is missing",
            hint="copy or download it again, and compare its size",
        )
    return None
