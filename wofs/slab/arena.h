/* What arena.c and cache.c share beyond slab.h. */
#ifndef WOFS_SLAB_ARENA_H
#define WOFS_SLAB_ARENA_H

#include "slab.h"

uint64_t slab_sum(const unsigned char *bytes, size_t size);
/* Publish and read back. */
slab_status slab_arena_write(slab_arena *arena, size_t offset, const void *data, size_t bytes);
slab_status slab_arena_name(slab_arena *arena, const char *name, uint32_t *at);

#endif
