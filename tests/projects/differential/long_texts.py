"""Texts at and over the limits of 255 and 2048 characters."""

import flyte

env = flyte.TaskEnvironment(name="long_texts", description="Describes. " * 40)
limit = flyte.TaskEnvironment(name="long_texts_limit", description="x" * 255)
over = flyte.TaskEnvironment(name="long_texts_over", description="y" * 256)


@env.task
def overlong(x: int) -> int:
    """An overlong first line that never seems to end. An overlong first line that never seems to end. An overlong first line that never seems to end. An overlong first line that never seems to end. An overlong first line that never seems to end. An overlong first line that never seems to end. An overlong first line that never seems to end. An overlong first line that never seems to end.

    Paragraph 0. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words.

    Paragraph 1. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words.

    Paragraph 2. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words.

    Paragraph 3. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words.

    Paragraph 4. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words.

    Paragraph 5. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words.

    Paragraph 6. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words.

    Paragraph 7. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words. Words and words.

    Args:
        x: A long description of a parameter. A long description of a parameter. A long description of a parameter. A long description of a parameter. A long description of a parameter. A long description of a parameter. A long description of a parameter. A long description of a parameter. A long description of a parameter. A long description of a parameter. A long description of a parameter. A long description of a parameter. A long description of a parameter. A long description of a parameter. A long description of a parameter. A long description of a parameter. A long description of a parameter. A long description of a parameter. A long description of a parameter. A long description of a parameter. A long description of a parameter. A long description of a parameter. A long description of a parameter. A long description of a parameter. A long description of a parameter. A long description of a parameter. A long description of a parameter. A long description of a parameter. A long description of a parameter. A long description of a parameter. 
    """
    return x


@limit.task
def at_the_limit(x: int) -> int:
    """sssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssss

    llllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllll
    """
    return x


@over.task(docs=flyte.Documentation(description="d" * 5000))
def just_over(x: int) -> int:
    """ssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssss

    lllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllll
    """
    return x
