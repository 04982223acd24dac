"""Records with curves that a test can compute by hand."""

from hypersphere.experiments import Record


def curve(steps, accuracy):
    return {"step": list(steps), "accuracy": list(accuracy)}


def record(seed=0, *, last=0.6, diverged="", **choices):
    """Accuracies rise evenly to `last` in four evaluations."""
    steps = [100, 200, 300, 400]
    rising = [last * (i + 1) / 4 for i in range(4)]
    return Record(
        family="family",
        choices=choices or {"operator": "plain", "scale": "small"},
        seed=seed,
        config={},
        result={}
        if diverged
        else {"parameters": 10, "examples_per_second": 50.0, "test_accuracy": last},
        diverged=diverged,
        curves={
            "train": curve(steps, rising),
            "test": curve([400], [last + 0.01]),
            "test of 20": curve(steps, rising),
            "test@batch of 20": curve(steps, [0.5, 0.5, 0.5, 0.5]),
        },
    )
