"""The head of a network, where its classes are points on a sphere."""

import dataclasses

from hypersphere.training.settings._fields import number, option

LEVELS = ("full", "chunked", "sampled")


@dataclasses.dataclass(slots=True, kw_only=True)
class HeadConfig:
    """The angular head that networks end with, for the losses that need one.

    Args:
        level: `full` for cosines to all classes; `chunked` for the same loss without
            ever making these; `sampled` for a loss over the classes of the batch and a
            random share of the others, of which alone anything is learned in a step.
        chunk: Classes that are looked at together when they are `chunked`.
        share: Of the classes that a step looks at when they are `sampled`, in (0, 1].
        centres: Centres per class, of which the nearest counts.
        scale: What takes the place of the features' lengths, where a loss of scale 0
            multiplies by them; 0 for these.
        learn_scale: Whether that scale is learned.
        initial_length: Of the class centres, which decides how fast they turn; 0 leaves
            it to the network.
        dtype: What class centres are stored in: `float32` or `bfloat16`.
    """

    level: str = option("full", LEVELS)
    chunk: int = number(2048, 1)
    share: float = number(0.1, 0, 1, "(]")
    centres: int = number(1, 1)
    scale: float = number(0.0, 0)
    learn_scale: bool = False
    initial_length: float = number(0.0, 0)
    dtype: str = option("float32", ("float32", "bfloat16"))

    def check(self) -> None:
        """Raises where fields have no effect, or go without another one."""
        default = HeadConfig()
        if self.level != "sampled" and self.share != default.share:
            raise ValueError(
                f"`config.head.share={self.share!r}` has no effect with "
                f"`config.head.level={self.level!r}`. Use 'sampled', or leave it."
            )
        if self.level == "full" and self.chunk != default.chunk:
            raise ValueError(
                f"`config.head.chunk={self.chunk!r}` has no effect with "
                "`config.head.level='full'`. Use 'chunked', or leave it."
            )
        if self.learn_scale and not self.scale:
            raise ValueError(
                "`config.head.learn_scale=True` needs a `config.head.scale` to begin "
                "with, got 0."
            )
