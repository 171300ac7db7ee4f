"""Write-once memory: objects filled once, published whole, sealed, never written again."""

from wofs.slab._slab import report_json, report_to
from wofs.slab.arena import BACKENDS, Arena, ArenaStats, Cache, CacheStats, Handles, PageMap, Site
from wofs.slab.layout import address_of, spec_of

__all__ = [
    "BACKENDS",
    "Arena",
    "ArenaStats",
    "Cache",
    "CacheStats",
    "Handles",
    "PageMap",
    "Site",
    "address_of",
    "report_json",
    "report_to",
    "spec_of",
]
