/* Arenas: pages of objects behind a control area, all of it protected.
 *
 *   control area: which cache each page belongs to | the caches | names of objects
 *   pages of objects: one cache each, slots of header and object
 *
 * All memory of objects is written here and in cache.c, by whole slots.
 */
#define _GNU_SOURCE
#include "slab.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arena.h"

#define STRING_BYTES (32u << 10)

static size_t caches_offset(uint32_t pages) {
    return ((size_t)pages * sizeof(uint16_t) + 15) / 16 * 16;
}

static size_t strings_offset(uint32_t pages) {
    return caches_offset(pages) + SLAB_MAX_CACHES * sizeof(slab_cache_entry);
}

static size_t control_bytes(uint32_t pages) {
    return strings_offset(pages) + STRING_BYTES;
}

const slab_cache_entry *slab_entry_caches(const slab_entry *entry) {
    return (const slab_cache_entry *)(entry->view + caches_offset(entry->pages));
}

/* In the manner of FNV-1a, but by words: found by verify() are changed bits, not forgers. Each
 * step maps sums one to one for a given word and words one to one for a given sum, so a change
 * within one word always shows. */
uint64_t slab_sum(const unsigned char *bytes, size_t size) {
    uint64_t sum = 0xcbf29ce484222325ULL ^ size;
    for (size_t at = 0; at < size; at += sizeof(uint64_t)) {
        size_t left = size - at;
        uint64_t word = 0;
        memcpy(&word, bytes + at, left < sizeof word ? left : sizeof word);
        sum = (sum ^ word) * 0x9e3779b97f4a7c15ULL;
        sum ^= sum >> 32;
    }
    return sum;
}

/* The arenas of this process, by their slot in the registry. */
static slab_arena *known[SLAB_MAX_ARENAS];

/* What a child publishes would show in its parent: it gets no writer. */
static void in_child(void) {
    for (size_t i = 0; i < SLAB_MAX_ARENAS; i++)
        if (known[i] && known[i]->region.fd >= 0) {
            close(known[i]->region.fd);
            known[i]->region.fd = -1;
        }
}

static void watch_forks(void) {
    static int watching;
    if (!watching && pthread_atfork(NULL, NULL, in_child) == 0)
        watching = 1;
}

static uint64_t next_uid(void) {
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
    entry->control_pages = arena->control_pages;
    strncpy(entry->backend, arena->region.backend->name, sizeof entry->backend - 1);
    strncpy(entry->label, label, sizeof entry->label - 1);
}

slab_status slab_arena_open(slab_arena *arena, size_t pages, const char *backend,
                            const char *label) {
    size_t page = slab_page();
    slab_entry entry;
    memset(arena, 0, sizeof *arena);
    arena->region.fd = -1;
    if (pages == 0 || pages > (1u << 30)) {
        errno = EINVAL;
        return SLAB_OS;
    }
    uint32_t control = (uint32_t)((control_bytes((uint32_t)pages) + page - 1) / page);
    /* The control area describes itself too: its pages belong to no cache. */
    control = (uint32_t)((control_bytes((uint32_t)pages + control + 1) + page - 1) / page);
    arena->control_pages = arena->next_page = control;
    arena->pages = (uint32_t)pages + control;
    arena->pid = getpid();
    arena->uid = next_uid();
    slab_status status = slab_registry_open();
    if (status != SLAB_OK)
        return status;
    arena->books = calloc(arena->pages, sizeof(slab_page_book *));
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
    watch_forks();
    known[arena->slot] = arena;
    return SLAB_OK;
}

/* ---- writing, which ends with finish */
static slab_status may_write(const slab_arena *arena) {
    if (!arena->region.base)
        return SLAB_STALE;
    if (arena->region.sealed)
        return SLAB_FINISHED;
    return arena->pid == getpid() ? SLAB_OK : SLAB_FORKED;
}

slab_status slab_arena_write(slab_arena *arena, size_t offset, const void *data, size_t bytes) {
    slab_status status = may_write(arena);
    if (status != SLAB_OK)
        return status;
    if (slab_region_write(&arena->region, offset, data, bytes) < 0)
        return SLAB_OS;
    return memcmp(arena->region.view + offset, data, bytes) ? SLAB_LOST : SLAB_OK;
}

slab_status slab_arena_name(slab_arena *arena, const char *name, uint32_t *at) {
    size_t bytes = strlen(name) + 1;
    size_t start = strings_offset(arena->pages);
    slab_status status = may_write(arena);
    if (status != SLAB_OK)
        return status;
    if (bytes > SLAB_NAME_MAX)
        return SLAB_LONG_NAME;
    /* A name that was freed and comes back costs no more room. */
    const unsigned char *old = memmem(arena->region.view + start, arena->strings, name, bytes);
    if (old) {
        *at = (uint32_t)(old - arena->region.view);
        return SLAB_OK;
    }
    if (bytes > STRING_BYTES - arena->strings)
        return SLAB_FULL;
    status = slab_arena_write(arena, start + arena->strings, name, bytes);
    if (status == SLAB_OK) {
        *at = (uint32_t)(start + arena->strings);
        arena->strings += bytes;
    }
    return status;
}

slab_status slab_arena_cache(slab_arena *arena, const slab_layout *layout, uint32_t *cache) {
    size_t stride = (sizeof(slab_header) + layout->size + 15) / 16 * 16;
    slab_status status = may_write(arena);
    if (status != SLAB_OK)
        return status;
    if (stride > slab_page())
        return SLAB_TOO_BIG;
    if (arena->ncaches == SLAB_MAX_CACHES)
        return SLAB_FULL;
    slab_cache_entry entry = {slab_layout_id(layout), (uint32_t)stride,
                              (uint32_t)(slab_page() / stride)};
    size_t at = caches_offset(arena->pages) + arena->ncaches * sizeof entry;
    status = slab_arena_write(arena, at, &entry, sizeof entry);
    if (status != SLAB_OK)
        return status;
    slab_cache *made = &arena->caches[arena->ncaches];
    memset(made, 0, sizeof *made);
    made->layout = layout;
    made->stride = entry.stride;
    made->per_page = entry.per_page;
    *cache = arena->ncaches++;
    return SLAB_OK;
}

slab_status slab_arena_finish(slab_arena *arena, int process_lifetime) {
    if (!arena->region.base)
        return SLAB_STALE;
    if (arena->pid != getpid())
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
    for (uint32_t i = 0; arena->books && i < arena->pages; i++)
        free(arena->books[i]);
    free(arena->books);
    arena->books = NULL;
    for (uint32_t i = 0; i < arena->ncaches; i++)
        free(arena->caches[i].pages);
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
    if (known[arena->slot] == arena)
        known[arena->slot] = NULL;
    arena->uid = 0;
    slab_region_close(&arena->region);
    free_books(arena);
}

slab_status slab_arena_export(slab_arena *arena, size_t offset, int change) {
    size_t page = offset / slab_page();
    if (!arena->books || page >= arena->pages || !arena->books[page])
        return SLAB_STALE;
    uint16_t header_cache = ((const slab_header *)(arena->region.view + offset))->cache;
    if (header_cache >= arena->ncaches)
        return SLAB_STALE;
    size_t slot = offset % slab_page() / arena->caches[header_cache].stride;
    uint16_t *exports = &arena->books[page]->exports[slot];
    if (change > 0 && *exports == UINT16_MAX)
        return SLAB_FULL;
    *exports = (uint16_t)(*exports + change);
    return SLAB_OK;
}

size_t slab_arena_verify(slab_arena *arena, void (*tell)(void *, size_t offset), void *context) {
    size_t page_bytes = slab_page(), bad = 0;
    for (uint32_t c = 0; c < arena->ncaches; c++) {
        const slab_cache *cache = &arena->caches[c];
        for (size_t p = 0; p < cache->npages; p++) {
            const slab_page_book *book = arena->books[cache->pages[p]];
            for (size_t s = 0; s < cache->per_page; s++) {
                size_t at = cache->pages[p] * page_bytes + s * cache->stride;
                size_t bytes = sizeof(slab_header) + cache->layout->size;
                if (!book->taken[s] || slab_sum(arena->region.view + at, bytes) == book->sums[s])
                    continue;
                bad++;
                if (tell)
                    tell(context, at);
            }
        }
    }
    return bad;
}
