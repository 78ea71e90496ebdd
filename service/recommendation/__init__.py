"""From findings to changes: concrete, ordered by how little they touch. Pure."""

from service.recommendation.recommend import recommend
from service.recommendation.remedies import ALL_REMEDIES

__all__ = ["ALL_REMEDIES", "recommend"]
