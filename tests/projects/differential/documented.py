'''Docstrings in the styles that people write, and `docs=`.'''

import flyte

env = flyte.TaskEnvironment(name="documented", description="Shows how   docstrings\nare read")


@env.task
def google(rows: int, name: str = "x") -> tuple[int, str]:
    """Counts rows in Google style.

    A longer description
    over two lines.

    Args:
        rows: How many rows; must be positive.
        name (str): Whose rows they are,
            on two lines.

    Returns:
        int: The count.
    """
    return rows, name


@env.task
def numpy(rows: int, name: str = "x") -> int:
    """
    Counts rows in numpy style.

    Parameters
    ----------
    rows : int
        How many rows.
    name : str, optional
        Whose rows they are.

    Returns
    -------
    o0 : int
        The count.
    """
    return rows


@env.task
def rest(rows: int, unknown: str = "") -> int:
    """Counts rows in reST style.

    :param rows: How many rows.
    :param missing: Not a parameter.
    :returns: The count.
    """
    return rows


@env.task
async def epydoc(rows: int) -> int:
    """
    @param rows: How many rows.
    @return: The count.
    """
    return rows


@env.task
def one_line(rows: int) -> int:
    """Only this."""
    return rows


@env.task
def nothing(rows: int) -> int:
    return rows


@env.task
def blank(rows: int) -> int:
    """   """
    return rows


@env.task(docs=flyte.Documentation(description="Said by the docs parameter"))
def explicit(rows: int) -> int:
    """Said by the docstring."""
    return rows


@env.task
def unicode_text(rows: int) -> int:
    """Räknar rader ☃ — 数える.

    Args:
        rows: Antal rader – många.
    """
    return rows
