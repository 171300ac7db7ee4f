/* Arenas: objects behind their control data, all of it protected.
 *
 *   which cache each unit belongs to | the caches | the first names of objects
 *   runs of units: one cache each, slots of header and object
 *   more names, in pages that take no memory before they are needed
 *
 * All memory of objects is written here and in cache.c, by whole slots.
 */
#define _GNU_SOURCE
#include "slab.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "arena.h"

#define NAME_BYTES (32u << 10)
#define NEAR_BYTES 128u /* of them beside the caches: enough for a mount's */

static size_t units_in(size_t bytes) {
    return (bytes + SLAB_UNIT - 1) / SLAB_UNIT;
}

static size_t caches_offset(size_t pages) {
    return (pages * slab_page() / SLAB_UNIT + 7) / 8 * 8;
}

static size_t near_offset(size_t pages) {
    return caches_offset(pages) + SLAB_MAX_CACHES * sizeof(slab_cache_entry);
}

static size_t far_offset(uint32_t end) {
    return (size_t)end * SLAB_UNIT;
}

const slab_cache_entry *slab_entry_caches(const slab_entry *entry) {
    return (const slab_cache_entry *)(entry->view + caches_offset(entry->pages));
}

const char *slab_entry_name(const slab_entry *entry, uint32_t name) {
    if (name >= NAME_BYTES)
        return NULL;
    size_t at = name < NEAR_BYTES ? near_offset(entry->pages) + name
                                  : far_offset(entry->end) + name - NEAR_BYTES;
    return (const char *)entry->view + at;
}

uint32_t slab_entry_run(const slab_entry *entry, size_t unit, uint32_t *cache) {
    if (unit < entry->first || unit >= entry->end)
        return SLAB_NO_INDEX;
    uint32_t owner = entry->view[unit] & (SLAB_RUN_START - 1);
    if (owner == 0 || owner > SLAB_MAX_CACHES)
        return SLAB_NO_INDEX;
    while (unit > entry->first && !(entry->view[unit] & SLAB_RUN_START))
        unit--;
    *cache = owner - 1;
    return (uint32_t)unit;
}

static inline uint64_t with_word(uint64_t sum, uint64_t word) {
    sum = (sum ^ word) * 0x9e3779b97f4a7c15ULL;
    return sum ^ sum >> 32;
}

/* In the manner of FNV-1a, but by words: found by verify() are changed bits, not forgers. Each
 * step maps sums one to one for a given word and words one to one for a given sum, so a change
 * within one word always shows. Four sums at once, since each step waits for the last. */
uint64_t slab_sum(const unsigned char *bytes, size_t size) {
    uint64_t a = 0xcbf29ce484222325ULL ^ size, b = 1, c = 2, d = 3, word[4];
    for (; size >= sizeof word; size -= sizeof word, bytes += sizeof word) {
        memcpy(word, bytes, sizeof word);
        a = with_word(a, word[0]);
        b = with_word(b, word[1]);
        c = with_word(c, word[2]);
        d = with_word(d, word[3]);
    }
    memset(word, 0, sizeof word);
    memcpy(word, bytes, size);
    a = with_word(with_word(a, word[0]), word[1]);
    b = with_word(with_word(b, word[2]), word[3]);
    return with_word(with_word(a, b), with_word(c, d));
}

uint64_t slab_next_uid(void) {
    static uint64_t last;
    return ++last;
}

static void describe(const slab_arena *arena, const char *label, slab_entry *entry) {
    memset(entry, 0, sizeof *entry);
    entry->uid = arena->uid;
    entry->base = arena->region.base;
    entry->view = arena->region.view;
    entry->reserved = arena->region.reserved;
    entry->size = arena->region.size;
    entry->pages = arena->pages;
    entry->first = arena->first;
    entry->end = arena->end;
    strncpy(entry->backend, arena->region.backend->name, sizeof entry->backend - 1);
    strncpy(entry->label, label, sizeof entry->label - 1);
}

/* Lay out an arena of so many pages of objects: the control data describe themselves too. */
static void lay_out(slab_arena *arena, size_t pages) {
    size_t page = slab_page(), far = (NAME_BYTES - NEAR_BYTES + page - 1) / page;
    size_t control = 0, all = 0, before;
    do {
        before = all;
        all = pages + far + (control + page - 1) / page;
        control = near_offset(all) + NEAR_BYTES;
    } while (all != before);
    arena->pages = (uint32_t)all;
    arena->first = arena->next = (uint32_t)units_in(control);
    arena->end = (uint32_t)((all - far) * page / SLAB_UNIT);
}

slab_status slab_arena_open(slab_arena *arena, size_t pages, const char *backend,
                            const char *label) {
    size_t page = slab_page();
    slab_entry entry;
    memset(arena, 0, sizeof *arena);
    arena->region.fd = -1;
    if (pages == 0 || pages > (1u << 30) / (page / SLAB_UNIT)) {
        errno = EINVAL;
        return SLAB_OS;
    }
    lay_out(arena, pages);
    arena->process = slab_process();
    arena->uid = slab_next_uid();
    slab_status status = slab_registry_open();
    if (status != SLAB_OK)
        return status;
    arena->books = calloc(arena->end, sizeof(slab_run *));
    if (!arena->books || slab_region_open(&arena->region, arena->pages * page, backend) < 0) {
        int saved = errno;
        slab_arena_close(arena);
        errno = saved;
        return SLAB_OS;
    }
    describe(arena, label, &entry);
    status = slab_registry_add(&entry, &arena->slot);
    if (status != SLAB_OK) {
        arena->uid = 0; /* not registered: nothing to take back */
        slab_arena_close(arena);
        return status;
    }
    return SLAB_OK;
}

/* ---- writing, which ends with finish */
static slab_status may_write(const slab_arena *arena) {
    if (!arena->region.base)
        return SLAB_STALE;
    if (arena->region.sealed)
        return SLAB_FINISHED;
    return arena->process == slab_process() ? SLAB_OK : SLAB_FORKED;
}

slab_status slab_arena_write(slab_arena *arena, size_t offset, const void *data, size_t bytes) {
    slab_status status = may_write(arena);
    if (status != SLAB_OK)
        return status;
    return slab_region_publish(&arena->region, offset, data, bytes);
}

/* Find a name of `bytes` bytes among those of one place; SIZE_MAX if it is not there. */
static size_t known_name(const slab_arena *arena, size_t start, size_t used, const char *name,
                         size_t bytes) {
    const unsigned char *from = arena->region.view + start;
    const unsigned char *old = used ? memmem(from, used, name, bytes) : NULL;
    return old ? (size_t)(old - from) : SIZE_MAX;
}

slab_status slab_arena_name(slab_arena *arena, const char *name, uint16_t *at) {
    size_t bytes = strlen(name) + 1;
    size_t near = near_offset(arena->pages), far = far_offset(arena->end);
    slab_status status = may_write(arena);
    if (status != SLAB_OK)
        return status;
    if (bytes > SLAB_NAME_MAX)
        return SLAB_LONG_NAME;
    /* A name that was freed and comes back costs no more room. */
    size_t found = known_name(arena, near, arena->near, name, bytes);
    if (found == SIZE_MAX && (found = known_name(arena, far, arena->far, name, bytes)) != SIZE_MAX)
        found += NEAR_BYTES;
    if (found != SIZE_MAX) {
        *at = (uint16_t)found;
        return SLAB_OK;
    }
    int is_near = !arena->far && bytes <= NEAR_BYTES - arena->near;
    size_t *used = is_near ? &arena->near : &arena->far;
    if (!is_near && bytes > NAME_BYTES - NEAR_BYTES - *used)
        return SLAB_FULL;
    status = slab_arena_write(arena, (is_near ? near : far) + *used, name, bytes);
    if (status == SLAB_OK) {
        *at = (uint16_t)(*used + (is_near ? 0 : NEAR_BYTES));
        *used += bytes;
    }
    return status;
}

/* How many slots of a row fill whole units best, within a page. */
static uint32_t slots_of_a_run(size_t stride) {
    size_t best = 1, best_units = units_in(stride);
    for (size_t slots = 2; slots * stride <= slab_page(); slots++) {
        size_t units = units_in(slots * stride);
        if (slots * best_units >= best * units) {
            best = slots;
            best_units = units;
        }
    }
    return (uint32_t)best;
}

slab_status slab_arena_cache(slab_arena *arena, const slab_layout *layout, uint32_t *cache) {
    size_t stride = (sizeof(slab_header) + layout->size + 7) / 8 * 8;
    slab_status status = may_write(arena);
    if (status != SLAB_OK)
        return status;
    if (stride > slab_page())
        return SLAB_TOO_BIG;
    if (arena->ncaches == SLAB_MAX_CACHES)
        return SLAB_FULL;
    slab_cache_entry entry = {(uint32_t)slab_layout_id(layout), (uint32_t)stride};
    size_t at = caches_offset(arena->pages) + arena->ncaches * sizeof entry;
    status = slab_arena_write(arena, at, &entry, sizeof entry);
    if (status != SLAB_OK)
        return status;
    slab_cache *made = &arena->caches[arena->ncaches];
    memset(made, 0, sizeof *made);
    made->layout = layout;
    made->stride = entry.stride;
    made->per_run = slots_of_a_run(stride);
    made->grow = 1;
    *cache = arena->ncaches++;
    return SLAB_OK;
}

slab_status slab_arena_finish(slab_arena *arena, int process_lifetime) {
    if (!arena->region.base)
        return SLAB_STALE;
    if (arena->process != slab_process())
        return SLAB_FORKED;
    if (!arena->region.sealed && slab_arena_verify(arena, NULL, NULL) > 0)
        return SLAB_LOST;
    if (slab_region_seal(&arena->region, process_lifetime) < 0)
        return SLAB_OS;
    slab_entry entry = slab_registry_view()->arenas[arena->slot];
    if (!entry.sealed) {
        entry.sealed = 1;
        slab_status status = slab_registry_set(arena->slot, &entry);
        if (status != SLAB_OK)
            return status;
    }
    if (process_lifetime && slab_registry_seal() < 0)
        return SLAB_OS;
    return SLAB_OK;
}

static void free_books(slab_arena *arena) {
    for (uint32_t i = 0; i < arena->ncaches; i++) {
        for (size_t r = 0; r < arena->caches[i].nruns; r++)
            free(arena->caches[i].runs[r]);
        free(arena->caches[i].runs);
    }
    free(arena->books);
    arena->books = NULL;
    arena->ncaches = 0;
}

/* A locked arena stays mapped and known, so that a late stray write is still named. */
void slab_arena_close(slab_arena *arena) {
    if (arena->uid && arena->region.base && !arena->region.locked) {
        slab_entry none;
        memset(&none, 0, sizeof none);
        /* Where the registry cannot be written any more, the entry outlives the mapping: reads
         * of its handles must not reach it, so the mapping stays as well. */
        if (slab_registry_set(arena->slot, &none) != SLAB_OK)
            arena->region.locked = 1;
    }
    arena->uid = 0;
    slab_region_close(&arena->region);
    free_books(arena);
}

slab_run *slab_arena_run(const slab_arena *arena, size_t offset, size_t *slot) {
    const slab_entry *entry = &slab_registry_view()->arenas[arena->slot];
    uint32_t id, start = slab_entry_run(entry, offset / SLAB_UNIT, &id);
    slab_run *run = arena->books && start < arena->end ? arena->books[start] : NULL;
    if (!run || id >= arena->ncaches)
        return NULL;
    *slot = (offset - (size_t)start * SLAB_UNIT) / arena->caches[id].stride;
    return *slot < run->slots ? run : NULL;
}

slab_status slab_arena_export(slab_arena *arena, size_t offset, int change) {
    size_t slot;
    slab_run *run = slab_arena_run(arena, offset, &slot);
    if (!run)
        return SLAB_STALE;
    uint16_t *exports = &run->exports[slot];
    if (change > 0 && *exports == UINT16_MAX)
        return SLAB_FULL;
    *exports = (uint16_t)(*exports + change);
    return SLAB_OK;
}

/* Whether a run is still marked as its cache's: what a crash report goes by. */
static int is_marked(const slab_arena *arena, const slab_run *run, uint32_t id) {
    const unsigned char *owners = arena->region.view + run->start;
    for (uint32_t i = 0; i < run->units; i++)
        if (owners[i] != ((id + 1) | (i ? 0 : SLAB_RUN_START)))
            return 0;
    return 1;
}

size_t slab_arena_verify(slab_arena *arena, void (*tell)(void *, size_t offset), void *context) {
    size_t bad = 0;
    for (uint32_t c = 0; c < arena->ncaches; c++) {
        const slab_cache *cache = &arena->caches[c];
        size_t bytes = sizeof(slab_header) + cache->layout->size;
        for (size_t r = 0; r < cache->nruns; r++) {
            const slab_run *run = cache->runs[r];
            int marked = is_marked(arena, run, c);
            for (size_t s = 0; s < run->slots; s++) {
                size_t at = (size_t)run->start * SLAB_UNIT + s * cache->stride;
                if (!run->taken[s] ||
                    (marked && slab_sum(arena->region.view + at, bytes) == run->sums[s]))
                    continue;
                bad++;
                if (tell)
                    tell(context, at);
            }
        }
    }
    return bad;
}
