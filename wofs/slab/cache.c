/* Caches: slots of one record type, filled once, freed to a freelist.
 *
 * A new object goes to the fullest page that has room, and there to the lowest free slot; a
 * page that empties goes back to the arena. Which slots are free is told by books outside the
 * pages: a list threaded through the slots would need writes to them.
 */
#define _GNU_SOURCE
#include "slab.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "arena.h"

#define BATCH_PAGES 64
#define DEAD_COOKIE 0xdeadc0dedeadc0deULL

static uint64_t next_serial(uint64_t count) {
    static uint64_t last = 1;
    uint64_t first = last;
    last += count;
    return first;
}

/* ---- pages */
static slab_page_book *new_book(size_t slots) {
    slab_page_book *book =
        calloc(1, sizeof *book + slots * (sizeof(uint64_t) + sizeof(uint16_t) + 1));
    if (!book)
        return NULL;
    book->sums = (uint64_t *)(book + 1);
    book->exports = (uint16_t *)(book->sums + slots);
    book->taken = (unsigned char *)(book->exports + slots);
    return book;
}

static int remember_page(slab_cache *cache, uint32_t page) {
    if (cache->npages == cache->room) {
        size_t room = cache->room ? 2 * cache->room : 8;
        uint32_t *pages = realloc(cache->pages, room * sizeof *pages);
        if (!pages)
            return -1;
        cache->pages = pages;
        cache->room = room;
    }
    cache->pages[cache->npages++] = page;
    return 0;
}

static slab_status set_owner(slab_arena *arena, uint32_t page, uint32_t owner) {
    uint16_t value = (uint16_t)owner;
    return slab_arena_write(arena, page * sizeof value, &value, sizeof value);
}

/* Give page `page`, which belongs to nobody, to a cache. */
static slab_status adopt(slab_arena *arena, uint32_t id, uint32_t page) {
    slab_cache *cache = &arena->caches[id];
    slab_status status = set_owner(arena, page, id + 1);
    if (status != SLAB_OK)
        return status;
    arena->books[page] = new_book(cache->per_page);
    if (!arena->books[page])
        return SLAB_OS;
    if (remember_page(cache, page) < 0) {
        free(arena->books[page]);
        arena->books[page] = NULL;
        return SLAB_OS;
    }
    cache->free_slots += cache->per_page;
    return SLAB_OK;
}

/* The lowest page that belongs to nobody; 0 if there is none (the control area's first). */
static uint32_t unowned(const slab_arena *arena) {
    for (uint32_t page = arena->control_pages; arena->emptied && page < arena->next_page; page++)
        if (!arena->books[page])
            return page;
    return arena->next_page < arena->pages ? arena->next_page : 0;
}

static slab_status one_page(slab_arena *arena, uint32_t id, uint32_t *page) {
    const slab_cache *cache = &arena->caches[id];
    *page = 0;
    if (cache->free_slots) {
        for (size_t i = 0; i < cache->npages; i++) {
            uint32_t candidate = cache->pages[i], used = arena->books[candidate]->used;
            if (used < cache->per_page && (!*page || used > arena->books[*page]->used))
                *page = candidate;
        }
        return SLAB_OK;
    }
    *page = unowned(arena);
    if (!*page)
        return SLAB_FULL;
    slab_status status = adopt(arena, id, *page);
    if (status == SLAB_OK) {
        if (*page == arena->next_page)
            arena->next_page++;
        else
            arena->emptied--;
    }
    return status;
}

/* Take an empty page from its cache. */
static slab_status give_back(slab_arena *arena, uint32_t id, uint32_t page) {
    slab_cache *cache = &arena->caches[id];
    slab_status status = set_owner(arena, page, 0);
    if (status != SLAB_OK)
        return status;
    for (size_t i = 0; i < cache->npages; i++)
        if (cache->pages[i] == page)
            cache->pages[i] = cache->pages[--cache->npages];
    cache->free_slots -= cache->per_page;
    free(arena->books[page]);
    arena->books[page] = NULL;
    arena->emptied++;
    return SLAB_OK;
}

/* ---- objects */

/* Build a whole slot in `scratch`: private memory until it is published. */
static void compose(const slab_arena *arena, const slab_cache *cache, uint32_t id, size_t offset,
                    slab_header head, const void *data, unsigned char *scratch) {
    head.cookie = slab_cookie(slab_registry_view()->secret, arena->uid, offset);
    head.cache = (uint16_t)id;
    head.size = (uint16_t)cache->layout->size;
    memcpy(scratch, &head, sizeof head);
    memcpy(scratch + sizeof head, data, cache->layout->size);
}

static void take(slab_arena *arena, slab_cache *cache, uint32_t page, size_t slot,
                 const unsigned char *bytes) {
    slab_page_book *book = arena->books[page];
    book->taken[slot] = 1;
    book->sums[slot] = slab_sum(bytes, sizeof(slab_header) + cache->layout->size);
    book->used++;
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
static void take_back(slab_arena *arena, uint32_t id, uint32_t page, size_t offset) {
    int saved = errno;
    (void)poison(arena, &arena->caches[id], offset);
    if (!arena->books[page]->used)
        (void)give_back(arena, id, page);
    errno = saved;
}

slab_status slab_arena_init(slab_arena *arena, uint32_t id, const char *name, const void *data,
                            slab_place *place) {
    slab_cache *cache = &arena->caches[id];
    slab_header head = {.index = SLAB_NO_INDEX};
    uint32_t page;
    size_t slot = 0;
    slab_status status = slab_arena_name(arena, name, &head.name);
    if (status == SLAB_OK)
        status = one_page(arena, id, &page);
    if (status != SLAB_OK)
        return status;
    while (arena->books[page]->taken[slot])
        slot++;
    unsigned char *scratch = malloc(sizeof head + cache->layout->size);
    if (!scratch)
        return SLAB_OS;
    place->offset = page * slab_page() + slot * cache->stride;
    place->serial = head.serial = next_serial(1);
    compose(arena, cache, id, place->offset, head, data, scratch);
    status = slab_arena_write(arena, place->offset, scratch, sizeof head + cache->layout->size);
    if (status == SLAB_OK)
        take(arena, cache, page, slot, scratch);
    else
        take_back(arena, id, page, place->offset);
    free(scratch);
    return status;
}

/* Bytes from the first page of a run to its object `index`. */
static size_t offset_in_run(const slab_cache *cache, size_t index) {
    return index / cache->per_page * slab_page() + index % cache->per_page * cache->stride;
}

/* Publish up to BATCH_PAGES pages of a batch by one write. */
static slab_status publish_run(slab_arena *arena, uint32_t id, slab_header head, size_t start,
                               size_t count, const unsigned char *data, unsigned char *scratch) {
    slab_cache *cache = &arena->caches[id];
    size_t page_bytes = slab_page(), pages = (count + cache->per_page - 1) / cache->per_page;
    memset(scratch, 0, pages * page_bytes);
    for (size_t i = 0; i < count; i++) {
        size_t at = offset_in_run(cache, i);
        compose(arena, cache, id, start + at, head, data + i * cache->layout->size, scratch + at);
        head.serial++;
        head.index++;
    }
    slab_status status = slab_arena_write(arena, start, scratch, pages * page_bytes);
    if (status != SLAB_OK) { /* as in take_back() */
        int saved = errno;
        memset(scratch, 0, pages * page_bytes);
        (void)slab_arena_write(arena, start, scratch, pages * page_bytes);
        errno = saved;
    }
    for (size_t i = 0; status == SLAB_OK && i < count; i++) {
        size_t at = offset_in_run(cache, i);
        take(arena, cache, (uint32_t)((start + at) / page_bytes), i % cache->per_page,
             scratch + at);
    }
    return status;
}

/* Objects of a batch lie in a row from a fresh page on, so that their places can be computed. */
slab_status slab_arena_batch(slab_arena *arena, uint32_t id, const char *name, size_t count,
                             const void *data, slab_place *place) {
    slab_cache *cache = &arena->caches[id];
    size_t per_run = BATCH_PAGES * cache->per_page;
    size_t pages = (count + cache->per_page - 1) / cache->per_page;
    slab_header head = {.index = 0};
    if (count >= SLAB_NO_INDEX || pages > arena->pages - arena->next_page)
        return SLAB_FULL;
    slab_status status = slab_arena_name(arena, name, &head.name);
    place->offset = arena->next_page * slab_page();
    place->serial = head.serial = next_serial(count);
    unsigned char *scratch = malloc((pages < BATCH_PAGES ? pages : BATCH_PAGES) * slab_page() + 1);
    if (!scratch)
        return SLAB_OS;
    for (size_t done = 0; status == SLAB_OK && done < count; done += per_run) {
        size_t now = count - done < per_run ? count - done : per_run;
        size_t start = place->offset + done / cache->per_page * slab_page();
        for (size_t p = 0; status == SLAB_OK && p * cache->per_page < now; p++) {
            status = adopt(arena, id, arena->next_page);
            arena->next_page += status == SLAB_OK;
        }
        if (status == SLAB_OK)
            status = publish_run(arena, id, head, start, now,
                                 (const unsigned char *)data + done * cache->layout->size, scratch);
        head.serial += now;
        head.index += (uint32_t)now;
    }
    free(scratch);
    return status;
}

slab_status slab_arena_free(slab_arena *arena, slab_place place) {
    uint32_t page = (uint32_t)(place.offset / slab_page());
    const slab_header *now = (const slab_header *)(arena->region.view + place.offset);
    if (!arena->region.base || now->serial != place.serial || now->cache >= arena->ncaches)
        return SLAB_STALE;
    uint32_t id = now->cache;
    slab_cache *cache = &arena->caches[id];
    slab_page_book *book = arena->books[page];
    size_t slot = place.offset % slab_page() / cache->stride;
    if (book->exports[slot])
        return SLAB_BUSY;
    if (arena->region.backend->whole && !arena->region.sealed)
        return SLAB_WHOLE;
    slab_header before = *now;
    slab_status status = poison(arena, cache, place.offset);
    if (status != SLAB_OK && memcmp(now, &before, sizeof before) == 0)
        return status; /* nothing was written: it lives on */
    book->taken[slot] = 0;
    book->used--;
    cache->objects--;
    cache->freed++;
    cache->free_slots++;
    if (book->used)
        return status;
    slab_status given = give_back(arena, id, page);
    return status == SLAB_OK ? given : status;
}
