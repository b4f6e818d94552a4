"""Back-off: how long to wait before the next attempt. Pure; jitter is an argument."""

__all__ = ["backoff_seconds"]


def backoff_seconds(attempt: int, *, base: float, cap: float, jitter: float) -> float:
    """Seconds to wait after the attempt of that number (from 1) has failed.

    `base` doubles with each attempt up to `cap`; then up to a quarter is taken
    off, so that many clients that failed together do not come back together.

    Args:
        attempt: from 1.
        base: seconds after the first attempt.
        cap: the most, in seconds.
        jitter: a random number from 0 to 1.
    """
    # The exponent is bounded: 2.0 ** 2000 would overflow after a day's outage.
    seconds = min(cap, base * 2.0 ** min(attempt - 1, 32))
    return seconds * (1.0 - 0.25 * jitter)
