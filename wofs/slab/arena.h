/* What arena.c and cache.c share beyond slab.h. */
#ifndef WOFS_SLAB_ARENA_H
#define WOFS_SLAB_ARENA_H

#include "slab.h"

uint64_t slab_next_uid(void); /* of an arena or a store: no two have the same */
uint64_t slab_sum(const unsigned char *bytes, size_t size);
/* Publish and read back. */
slab_status slab_arena_write(slab_arena *arena, size_t offset, const void *data, size_t bytes);
slab_status slab_arena_name(slab_arena *arena, const char *name, uint16_t *at);
size_t slab_run_bytes(const slab_cache *cache); /* of a full run of a batch */
/* The run and slot of an object whose header is at an offset; NULL: none is. */
slab_run *slab_arena_run(const slab_arena *arena, size_t offset, size_t *slot);

#endif
