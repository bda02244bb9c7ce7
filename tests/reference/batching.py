"""The naive reference of `gannet_inference.batch.choose`: every candidate is tried against the rules written out."""

BUCKET = 64


def choose(lengths: list[int], budget: int) -> list[int]:
    """The oldest, then by distance of width and by age, whatever keeps the batch within the budget and half its width."""
    widths = [BUCKET * ((length + BUCKET - 1) // BUCKET) for length in lengths]
    batch = [0]
    for distance in sorted({abs(width - widths[0]) for width in widths}):
        for index in range(1, len(widths)):
            trial = [widths[member] for member in [*batch, index]]
            near = abs(widths[index] - widths[0]) == distance
            if near and max(trial) * len(trial) <= budget and min(trial) >= max(trial) / 2:
                batch.append(index)
    return sorted(batch)
