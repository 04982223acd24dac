"""The rules by which parameters are divided."""

AXES = ("data", "fsdp", "model")
"""Of the devices."""


def parse_rule(rule: str) -> tuple[str, tuple[str, ...]]:
    """The pattern of a rule, and its axes.

    Raises:
        ValueError: If the rule is not `PATTERN: AXES`, or names an unknown axis.
    """
    pattern, colon, axes = (part.strip() for part in rule.partition(":"))
    words = tuple(axes.split())
    if not colon or not pattern or not words or (set(words) - {*AXES, "-", "auto"}):
        raise ValueError(
            "`config.mesh.rules` needs `PATTERN: AXES`, with `auto` or one of "
            f"{', '.join(AXES)} and `-` per dimension, such as `head.kernel: - model`, "
            f"got {rule!r}."
        )
    return pattern, words
