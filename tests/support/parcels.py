"""A class that only step code imports."""

from dataclasses import dataclass

from offbook import register


@register
@dataclass
class Parcel:
    label: str
    grams: int
