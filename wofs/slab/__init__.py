"""Write-once memory: objects filled once, published whole, sealed, never written again."""

from wofs.slab._slab import report_to
from wofs.slab.arena import BACKENDS, Arena, ArenaStats, Cache, CacheStats, Handles, Site
from wofs.slab.layout import spec_of

__all__ = [
    "BACKENDS",
    "Arena",
    "ArenaStats",
    "Cache",
    "CacheStats",
    "Handles",
    "Site",
    "report_to",
    "spec_of",
]
