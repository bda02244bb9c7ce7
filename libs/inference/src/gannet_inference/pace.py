"""How fast a model reads, measured while it serves, to tell in advance which work would come too late."""

# What is left of a run's weight after the next one: about the last 20 runs count.
_MEMORY = 0.95
# How far the estimate falls each time that it has turned work away.
_DOUBT = 0.9


class Pace:
    """Seconds a token over the last runs, long runs counting for more; several threads may use it.

    An estimate that is too high, after the machine stood still for a moment, would turn work away, nothing would run, and
    the estimate would stay: so each refusal lowers it until something runs and corrects it. Threads that write at once lose
    a measurement at worst.
    """

    def __init__(self) -> None:
        """Starts without a measurement: everything is expected to take no time."""
        self._seconds = 0.0
        self._tokens = 0.0

    def expected_s(self, tokens: int) -> float:
        """How long a run over so many tokens should take; 0.0 before the first measurement."""
        return tokens * self._seconds / self._tokens if self._tokens else 0.0

    def measured(self, tokens: int, seconds: float) -> None:
        """Counts one run that went well."""
        self._seconds = _MEMORY * self._seconds + seconds
        self._tokens = _MEMORY * self._tokens + tokens

    def refused(self) -> None:
        """Lowers the estimate: work was turned away for it."""
        self._seconds *= _DOUBT
