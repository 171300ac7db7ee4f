"""Write-once memory: objects filled once, published whole, sealed, never written again."""

from wofs.slab._slab import report_json, report_to
from wofs.slab.arena import BACKENDS, Arena, ArenaStats, Cache, CacheStats, Handles, PageMap, Site
from wofs.slab.layout import address_of, spec_of
from wofs.slab.store import Range, Shelf, ShelfStats, Store

__all__ = [
    "BACKENDS",
    "Arena",
    "ArenaStats",
    "Cache",
    "CacheStats",
    "Handles",
    "PageMap",
    "Range",
    "Shelf",
    "ShelfStats",
    "Site",
    "Store",
    "address_of",
    "report_json",
    "report_to",
    "spec_of",
]
