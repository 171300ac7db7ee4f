"""Write-once memory: objects filled once, published whole, sealed, never written again."""

from wofs.slab._slab import report_to
from wofs.slab.arena import Arena, ArenaStats, Cache, CacheStats, Handles

__all__ = ["Arena", "ArenaStats", "Cache", "CacheStats", "Handles", "report_to"]
