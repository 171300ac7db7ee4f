/* Caches: slots of one record type, filled once, freed to a freelist.
 *
 * A cache has runs of units, many or one to a page. A new object goes to the fullest run that has
 * room, and there to the lowest free slot; a run that empties goes back to the arena. Which slots
 * are free is told by books outside the runs: a list threaded through the slots would need writes
 * to them.
 */
#define _GNU_SOURCE
#include "slab.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "arena.h"

#define BATCH_BYTES ((size_t)64 * slab_page()) /* published by one write */
#define DEAD_COOKIE 0xdeadc0dedeadc0deULL

/* 0: there are none left. */
static uint64_t next_serial(uint64_t count) {
    static uint64_t last = 1;
    uint64_t first = last;
    if (count > SLAB_SERIAL_MAX - last)
        return 0;
    last += count;
    return first;
}

/* ---- runs */
static slab_run *new_run(uint32_t start, uint32_t units, size_t slots) {
    slab_run *run = calloc(1, sizeof *run + slots * (sizeof(uint64_t) + sizeof(uint16_t) + 1));
    if (!run)
        return NULL;
    run->start = start;
    run->units = units;
    run->slots = (uint32_t)slots;
    run->sums = (uint64_t *)(run + 1);
    run->exports = (uint16_t *)(run->sums + slots);
    run->taken = (unsigned char *)(run->exports + slots);
    return run;
}

static int make_room(slab_cache *cache) {
    if (cache->nruns < cache->room)
        return 0;
    size_t room = cache->room ? 2 * cache->room : 4;
    slab_run **runs = realloc(cache->runs, room * sizeof *runs);
    if (!runs)
        return -1;
    cache->runs = runs;
    cache->room = room;
    return 0;
}

static uint32_t units_of(size_t bytes) {
    return (uint32_t)((bytes + SLAB_UNIT - 1) / SLAB_UNIT);
}

static size_t offset_of(const slab_run *run) {
    return (size_t)run->start * SLAB_UNIT;
}

/* Give a cache a run of `slots` slots from a unit on; its owner bytes are the caller's to publish. */
static slab_run *adopt(slab_arena *arena, slab_cache *cache, uint32_t start, size_t slots) {
    slab_run *run =
        make_room(cache) < 0 ? NULL : new_run(start, units_of(slots * cache->stride), slots);
    if (!run)
        return NULL;
    arena->books[start] = cache->runs[cache->nruns++] = run;
    cache->free_slots += slots;
    if (start < arena->next)
        arena->holes -= run->units;
    else
        arena->next = start + run->units;
    return run;
}

static void mark(unsigned char *owners, uint32_t id, uint32_t units) {
    memset(owners, (int)(id + 1), units);
    owners[0] |= SLAB_RUN_START;
}

/* Forget a run that holds nothing. */
static void drop(slab_arena *arena, slab_cache *cache, slab_run *run) {
    for (size_t i = 0; i < cache->nruns; i++)
        if (cache->runs[i] == run)
            cache->runs[i] = cache->runs[--cache->nruns];
    cache->free_slots -= run->slots;
    cache->recent = cache->recent == run ? NULL : cache->recent;
    cache->grow = cache->nruns ? cache->grow : 1;
    arena->books[run->start] = NULL;
    arena->holes += run->units;
    arena->too_long = 0;
    free(run);
}

/* Take an empty run from its cache. */
static slab_status give_back(slab_arena *arena, slab_cache *cache, slab_run *run) {
    unsigned char nobody[SLAB_UNITS_MAX] = {0};
    slab_status status = slab_arena_write(arena, run->start, nobody, run->units);
    if (status == SLAB_OK)
        drop(arena, cache, run);
    return status;
}

/* The lowest unit from which on `units` belong to nobody; 0 if there is no such row. */
static uint32_t unowned(slab_arena *arena, uint32_t units) {
    int hopeless = arena->too_long && units >= arena->too_long;
    uint32_t unit = arena->first, row = 0;
    if (arena->holes >= units && !hopeless) {
        for (; unit < arena->next && row < units; unit++)
            row = arena->region.view[unit] ? 0 : row + 1;
        if (row == units)
            return unit - units;
        arena->too_long = units;
    }
    return units <= arena->end - arena->next ? arena->next : 0;
}

/* The fullest run of a cache that has a free slot. */
static slab_run *fullest(const slab_cache *cache) {
    slab_run *best = cache->recent;
    if (best && best->slots - best->used == cache->free_slots && cache->free_slots)
        return best; /* nothing else is free */
    best = NULL;
    for (size_t i = 0; cache->free_slots && i < cache->nruns; i++) {
        slab_run *run = cache->runs[i];
        if (run->used < run->slots && (!best || run->used > best->used))
            best = run;
    }
    return best;
}

/* A run with a free slot: each new one is twice as long as the last, up to a page. */
static slab_status one_run(slab_arena *arena, uint32_t id, slab_run **run) {
    unsigned char owners[SLAB_UNITS_MAX];
    slab_cache *cache = &arena->caches[id];
    *run = fullest(cache);
    if (*run)
        return SLAB_OK;
    uint32_t units = units_of((size_t)cache->grow * cache->stride);
    uint32_t start = unowned(arena, units);
    if (!start && cache->grow > 1) { /* a short one may still find room */
        units = units_of(cache->stride);
        start = unowned(arena, units);
    }
    if (!start)
        return SLAB_FULL;
    mark(owners, id, units);
    slab_status status = slab_arena_write(arena, start, owners, units);
    if (status == SLAB_OK) {
        *run = adopt(arena, cache, start, (size_t)units * SLAB_UNIT / cache->stride);
        status = *run ? SLAB_OK : SLAB_OS;
    }
    if (status != SLAB_OK) {
        int saved = errno;
        memset(owners, 0, units);
        (void)slab_arena_write(arena, start, owners, units);
        errno = saved;
    } else if (cache->grow < cache->per_run) {
        cache->grow = 2 * cache->grow < cache->per_run ? 2 * cache->grow : cache->per_run;
    }
    return status;
}

/* ---- objects */

/* Build a whole slot in `scratch`: private memory until it is published. */
static void compose(const slab_arena *arena, const slab_cache *cache, uint32_t id, size_t offset,
                    slab_header head, const void *data, unsigned char *scratch) {
    head.cookie = slab_cookie(slab_registry_view()->secret, arena->uid, offset);
    head.cache = (uint8_t)id;
    head.size = (uint16_t)cache->layout->size;
    memcpy(scratch, &head, sizeof head);
    memcpy(scratch + sizeof head, data, cache->layout->size);
}

static void take(slab_cache *cache, slab_run *run, size_t slot, const unsigned char *bytes) {
    run->taken[slot] = 1;
    run->sums[slot] = slab_sum(bytes, sizeof(slab_header) + cache->layout->size);
    run->used++;
    cache->recent = run;
    cache->free_slots--;
    cache->objects++;
}

static slab_status poison(slab_arena *arena, const slab_cache *cache, size_t offset) {
    size_t bytes = sizeof(slab_header) + cache->layout->size;
    slab_header dead = {.cookie = DEAD_COOKIE, .cache = SLAB_FREE_CACHE, .index = SLAB_NO_INDEX};
    unsigned char *content = malloc(bytes);
    if (!content)
        return SLAB_OS;
    memset(content, SLAB_POISON, bytes);
    memcpy(content, &dead, sizeof dead);
    slab_status status = slab_arena_write(arena, offset, content, bytes);
    free(content);
    return status;
}

/* A publication failed half way (a limit on file sizes): leave no part of an object that could
 * be taken for one. What cannot be written now was not written before. */
static void take_back(slab_arena *arena, slab_cache *cache, slab_run *run, size_t offset) {
    int saved = errno;
    (void)poison(arena, cache, offset);
    if (!run->used)
        (void)give_back(arena, cache, run);
    errno = saved;
}

slab_status slab_arena_init(slab_arena *arena, uint32_t id, const char *name, const void *data,
                            slab_place *place) {
    slab_cache *cache = &arena->caches[id];
    slab_header head = {.index = SLAB_NO_INDEX};
    slab_run *run;
    size_t slot = 0;
    slab_status status = slab_arena_name(arena, name, &head.name);
    uint64_t serial = status == SLAB_OK ? next_serial(1) : 0;
    if (status == SLAB_OK)
        status = serial ? one_run(arena, id, &run) : SLAB_FULL;
    if (status != SLAB_OK)
        return status;
    while (run->taken[slot])
        slot++;
    unsigned char *scratch = malloc(sizeof head + cache->layout->size);
    if (!scratch)
        return SLAB_OS;
    place->offset = offset_of(run) + slot * cache->stride;
    place->serial = serial;
    head.serial = serial & SLAB_SERIAL_MAX;
    compose(arena, cache, id, place->offset, head, data, scratch);
    status = slab_arena_write(arena, place->offset, scratch, sizeof head + cache->layout->size);
    if (status == SLAB_OK)
        take(cache, run, slot, scratch);
    else
        take_back(arena, cache, run, place->offset);
    free(scratch);
    return status;
}

/* ---- batches: objects in a row of equal runs, the last one shorter, so that their places can be
 * computed */
typedef struct {
    slab_arena *arena;
    slab_cache *cache;
    uint32_t id;
    size_t run_units;
    slab_header head;          /* of the next object */
    const unsigned char *data; /* its content */
    unsigned char *scratch;    /* BATCH_BYTES, then an owner for each unit of them */
} batch;

size_t slab_run_bytes(const slab_cache *cache) {
    return (size_t)units_of((size_t)cache->per_run * cache->stride) * SLAB_UNIT;
}

/* Units that the next `count` objects of a batch take. */
static size_t units_for(const batch *made, size_t count) {
    size_t rest = count % made->cache->per_run;
    return count / made->cache->per_run * made->run_units + units_of(rest * made->cache->stride);
}

/* Take runs for `count` objects from the arena's next unit on. */
static slab_status adopt_runs(const batch *made, size_t count) {
    slab_arena *arena = made->arena;
    unsigned char *owners = made->scratch + BATCH_BYTES;
    uint32_t stride = made->cache->stride, start = arena->next;
    size_t all = units_for(made, count);
    for (size_t at = 0; at < all; at += made->run_units)
        mark(owners + at, made->id,
             (uint32_t)(all - at < made->run_units ? all - at : made->run_units));
    slab_status status = slab_arena_write(arena, start, owners, all);
    for (size_t at = 0; status == SLAB_OK && at < all; at += made->run_units) {
        size_t units = all - at < made->run_units ? all - at : made->run_units;
        size_t slots = units == made->run_units ? made->cache->per_run : units * SLAB_UNIT / stride;
        if (!adopt(arena, made->cache, start + (uint32_t)at, slots))
            status = SLAB_OS;
    }
    return status;
}

/* As in take_back(), for all of a piece of a batch. */
static void take_runs_back(const batch *made, uint32_t start, size_t count) {
    int saved = errno;
    size_t all = units_for(made, count);
    memset(made->scratch, 0, all * SLAB_UNIT);
    (void)slab_arena_write(made->arena, (size_t)start * SLAB_UNIT, made->scratch, all * SLAB_UNIT);
    (void)slab_arena_write(made->arena, start, made->scratch, all);
    for (size_t at = 0; at < all; at += made->run_units)
        if (made->arena->books[start + at])
            drop(made->arena, made->cache, made->arena->books[start + at]);
    errno = saved;
}

/* Publish the next `count` objects, of at most BATCH_BYTES, by one write. */
static slab_status publish_piece(batch *made, size_t count) {
    slab_arena *arena = made->arena;
    slab_cache *cache = made->cache;
    uint32_t start = arena->next;
    size_t first = (size_t)start * SLAB_UNIT, bytes = units_for(made, count) * SLAB_UNIT;
    slab_status status = adopt_runs(made, count);
    memset(made->scratch, 0, bytes);
    for (size_t i = 0, run = 0, slot = 0; i < count; i++) {
        size_t at = run * made->run_units * SLAB_UNIT + slot * cache->stride;
        compose(arena, cache, made->id, first + at, made->head, made->data, made->scratch + at);
        made->head.serial = (made->head.serial + 1) & SLAB_SERIAL_MAX;
        made->head.index++;
        made->data += cache->layout->size;
        if (++slot == cache->per_run)
            slot = 0, run++;
    }
    if (status == SLAB_OK)
        status = slab_arena_write(arena, first, made->scratch, bytes);
    if (status != SLAB_OK) {
        take_runs_back(made, start, count);
        return status;
    }
    for (size_t i = 0, run = 0, slot = 0; i < count; i++) {
        size_t unit = run * made->run_units;
        take(cache, arena->books[start + unit], slot,
             made->scratch + unit * SLAB_UNIT + slot * cache->stride);
        if (++slot == cache->per_run)
            slot = 0, run++;
    }
    return SLAB_OK;
}

slab_status slab_arena_batch(slab_arena *arena, uint32_t id, const char *name, size_t count,
                             const void *data, slab_place *place) {
    slab_cache *cache = &arena->caches[id];
    size_t piece = BATCH_BYTES / slab_run_bytes(cache) * cache->per_run;
    batch made = {.arena = arena, .cache = cache, .id = id, .data = data};
    made.run_units = slab_run_bytes(cache) / SLAB_UNIT;
    if (count >= SLAB_NO_INDEX || units_for(&made, count) > arena->end - arena->next)
        return SLAB_FULL;
    slab_status status = slab_arena_name(arena, name, &made.head.name);
    uint64_t serial = status == SLAB_OK ? next_serial(count) : 0;
    if (status == SLAB_OK && !serial)
        status = SLAB_FULL;
    if (status != SLAB_OK)
        return status;
    place->offset = (size_t)arena->next * SLAB_UNIT;
    place->serial = serial;
    made.head.serial = serial & SLAB_SERIAL_MAX;
    made.scratch = malloc(BATCH_BYTES + BATCH_BYTES / SLAB_UNIT);
    if (!made.scratch)
        return SLAB_OS;
    for (size_t done = 0; status == SLAB_OK && done < count; done += piece)
        status = publish_piece(&made, count - done < piece ? count - done : piece);
    free(made.scratch);
    return status;
}

slab_status slab_arena_free(slab_arena *arena, slab_place place) {
    const slab_header *now = (const slab_header *)(arena->region.view + place.offset);
    if (!arena->region.base || now->serial != place.serial || now->cache >= arena->ncaches)
        return SLAB_STALE;
    slab_cache *cache = &arena->caches[now->cache];
    size_t slot;
    slab_run *run = slab_arena_run(arena, place.offset, &slot);
    if (!run)
        return SLAB_STALE;
    if (run->exports[slot])
        return SLAB_BUSY;
    if (arena->region.backend->whole && !arena->region.sealed)
        return SLAB_WHOLE;
    slab_header before = *now;
    slab_status status = poison(arena, cache, place.offset);
    if (status != SLAB_OK && memcmp(now, &before, sizeof before) == 0)
        return status; /* nothing was written: it lives on */
    run->taken[slot] = 0;
    run->used--;
    cache->objects--;
    cache->freed++;
    cache->free_slots++;
    if (run->used)
        return status;
    slab_status given = give_back(arena, cache, run);
    return status == SLAB_OK ? given : status;
}
