"""Tables of pandas or polars."""

from typing import Any

__all__ = ["make_frame"]


def make_frame(rows: list[dict[str, Any]], library: str) -> Any:
    """A data frame of pandas or polars."""
    if library == "polars":
        import polars

        if "pool" in rows[0]:  # a column has one type
            rows = [{**row, "pool": str(row["pool"])} for row in rows]
        return polars.DataFrame(rows)
    try:
        import pandas
    except ImportError:
        raise ImportError(
            "tables need pandas: pip install pandas; or give frame='polars'"
        ) from None
    return pandas.DataFrame(rows)
