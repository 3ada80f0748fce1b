"""Tables of results as data frames."""

from typing import Any


def make_frame(rows: list[dict[str, Any]], library: str) -> Any:
    """Make a pandas or polars data frame."""
    if library == "polars":
        import polars

        return polars.DataFrame(rows)
    try:
        import pandas
    except ImportError:
        raise ImportError(
            "tables need pandas: pip install pandas; or give frame='polars'"
        ) from None
    return pandas.DataFrame(rows)
