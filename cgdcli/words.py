"""Small words for people."""


def counted(number: int, one: str, many: str | None = None) -> str:
    """`1 picture`, `2 pictures`, `3 classes`."""
    return f"{number} {one if number == 1 else many or one + 's'}"
