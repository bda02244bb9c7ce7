"""What can go wrong with a model, each with the model's name and what the caller has to look at."""


class ModelError(Exception):
    """A model that cannot be had, built or run.

    Attributes:
        model: the manifest name.
        field: the manifest key, file or tensor at fault.
    """

    def __init__(self, model: str, field: str, problem: str) -> None:
        """Composes the message from its parts."""
        super().__init__(f"model {model!r}: {field}: {problem}")
        self.model = model
        self.field = field


class ManifestError(ModelError):
    """The manifest cannot be read, names an unknown key or leaves one out."""


class FetchFailed(ModelError):
    """The source did not give the files within the limits of time and size."""


class DigestMismatch(ModelError):
    """A file is not the one that the manifest names; nothing of it is kept."""

    def __init__(self, model: str, file: str, expected: str, found: str) -> None:
        """Keeps both digests, sha256 in hex."""
        super().__init__(model, file, f"sha256 is {found}, the manifest says {expected}; refused")
        self.file = file
        self.expected = expected
        self.found = found


class UnsupportedModel(ModelError):
    """The files are a model that Gannet cannot build: another architecture, or parts that do not fit together."""


class BadWeights(ModelError):
    """A tensor is missing, has the wrong shape, or holds NaN or infinity."""


class ModelFailure(ModelError):
    """A loaded model failed while it ran, or gave NaN."""


class DeviceUnavailable(Exception):
    """The configured device cannot be used with what is installed."""


class QueueFull(Exception):
    """The queue in front of the model is full, or too long for the caller's deadline.

    Attributes:
        retry_after_s: when there should be room, from the measured rate.
    """

    def __init__(self, retry_after_s: float) -> None:
        """Keeps the hint for the caller."""
        super().__init__(f"the queue is full, try again in {retry_after_s:.2f} s")
        self.retry_after_s = retry_after_s


class DeadlineHopeless(Exception):
    """The work would not end before its deadline, so none of it was done.

    Attributes:
        needed_s: how long it would have taken, by the measured rate.
        left_s: how long there was.
    """

    def __init__(self, needed_s: float, left_s: float) -> None:
        """Keeps both times for the caller."""
        super().__init__(f"needs about {needed_s:.3f} s, the deadline leaves {max(left_s, 0.0):.3f} s")
        self.needed_s = needed_s
        self.left_s = left_s


class DeadlinePassed(Exception):
    """The work was under way when its deadline passed; the rest was not done."""
