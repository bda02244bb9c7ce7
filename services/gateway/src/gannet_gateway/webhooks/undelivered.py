"""Why a post was in vain."""


class Undelivered(Exception):
    """The receiver did not take an event. The message says why and quotes nothing of a reply; `status_code` is 0 where there was none."""

    def __init__(self, message: str, status_code: int = 0) -> None:
        super().__init__(message)
        self.status_code = status_code
