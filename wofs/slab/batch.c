/* Stores and their batches: see batch.h.
 *
 * A store reserves addresses once, in one entry of the registry, which may be sealed afterwards.
 * A batch takes some slots of them in a row, with memory of its own (of one memory file, say)
 * that is sealed when it is full; given back, its slots are without access again.
 */
#define _GNU_SOURCE
#include "batch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "arena.h"

#define ALIGNMENT 16

/* The stores of this process, by their entry in the registry. */
static slab_store *known[SLAB_MAX_ARENAS];

/* Has the slots whose memory the system did not take back. */
static slab_batch lost = {.first = UINT32_MAX};

/* Take the addresses, without memory behind them. */
static int reserve(slab_region *region, size_t bytes) {
    size_t guard = slab_guard();
    memset(region, 0, sizeof *region);
    region->fd = -1;
    region->size = bytes;
    region->reserved = bytes + 2 * guard;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void *base = mmap(NULL, region->reserved, PROT_NONE, flags, -1, 0);
    if (base == MAP_FAILED)
        return -1;
    region->base = base;
    region->view = region->base + guard;
    return 0;
}

/* Publish the names of kinds, or find them: a process may mount many times. */
static slab_status publish_kinds(slab_kinds *kinds, const slab_kinds **published) {
    static const slab_kinds *last;
    const void *at;
    for (const slab_kinds *one = last; one; one = one->earlier)
        if (one->count == kinds->count && !memcmp(one->names, kinds->names, sizeof one->names)) {
            *published = one;
            return SLAB_OK;
        }
    kinds->earlier = last;
    slab_status status = slab_registry_append(kinds, sizeof *kinds, &at);
    if (status == SLAB_OK)
        *published = last = at;
    return status;
}

static slab_status enter(slab_store *store, const char *label, slab_kinds *kinds) {
    const slab_kinds *names;
    slab_status status = publish_kinds(kinds, &names);
    if (status != SLAB_OK)
        return status;
    slab_entry entry;
    memset(&entry, 0, sizeof entry);
    entry.uid = store->uid;
    entry.base = store->region.base;
    entry.view = store->region.view;
    entry.reserved = store->region.reserved;
    entry.size = store->region.size;
    entry.pages = (uint32_t)(store->region.size / slab_page());
    entry.kinds = names;
    strncpy(entry.backend, store->backend->name, sizeof entry.backend - 1);
    strncpy(entry.label, label, sizeof entry.label - 1);
    return slab_registry_add(&entry, &store->entry);
}

slab_status slab_store_open(slab_store *store, uint32_t nslots, size_t slot_bytes,
                            const char *backend, const char *label, slab_kinds *kinds) {
    memset(store, 0, sizeof *store);
    store->backend = slab_backend_called(backend);
    if (!store->backend || !nslots || nslots > SLAB_MAX_SLOTS || !slot_bytes || slot_bytes % slab_page() ||
        slot_bytes > SIZE_MAX / 4 / nslots) {
        errno = EINVAL;
        return SLAB_OS;
    }
    slab_status status = slab_registry_open();
    if (status != SLAB_OK)
        return status;
    store->slots = calloc(nslots, sizeof *store->slots);
    if (!store->slots)
        return SLAB_OS;
    if (reserve(&store->region, nslots * slot_bytes) < 0) {
        free(store->slots);
        store->slots = NULL;
        return SLAB_OS;
    }
    store->nslots = nslots;
    store->slot_bytes = slot_bytes;
    store->kinds = kinds->count;
    store->uid = slab_next_uid();
    store->process = slab_process();
    status = enter(store, label, kinds);
    if (status != SLAB_OK) {
        store->uid = 0; /* not registered: nothing to take back */
        slab_store_close(store);
        return status;
    }
    known[store->entry] = store;
    return SLAB_OK;
}

/* All batches are given back by now. */
void slab_store_close(slab_store *store) {
    slab_entry none;
    memset(&none, 0, sizeof none);
    /* Where the registry is sealed, its entry stays, and so do the addresses it speaks of. */
    int gone = !store->uid || slab_registry_set(store->entry, &none) == SLAB_OK;
    if (store->uid && known[store->entry] == store)
        known[store->entry] = NULL;
    if (store->region.base && gone)
        munmap(store->region.base, store->region.reserved);
    store->region.base = NULL;
    store->uid = 0;
    free(store->slots);
    store->slots = NULL;
    store->nslots = 0;
}

/* ---- batches */
static int find_room(slab_store *store, uint32_t slots, uint32_t *first) {
    if (slots > store->nslots)
        return 0;
    for (uint32_t tried = 0, run = 0, at = store->next; tried < store->nslots + slots; tried++) {
        if (at >= store->nslots) /* a run does not go on behind the end */
            at = 0, run = 0;
        run = store->slots[at] ? 0 : run + 1;
        at++;
        if (run == slots) {
            *first = at - slots;
            return 1;
        }
    }
    return 0;
}

slab_status slab_batch_open(slab_store *store, slab_batch *batch, size_t bytes) {
    memset(batch, 0, sizeof *batch);
    batch->region.fd = -1;
    if (!store->region.base)
        return SLAB_STALE;
    if (store->process != slab_process())
        return SLAB_FORKED;
    if (bytes > store->region.size)
        return SLAB_FULL;
    size_t need = bytes + sizeof(slab_kept);
    uint32_t slots = (uint32_t)((need + store->slot_bytes - 1) / store->slot_bytes);
    if (!find_room(store, slots, &batch->first))
        return SLAB_FULL;
    slab_region *region = &batch->region;
    region->backend = store->backend;
    region->base = region->view = store->region.view + batch->first * store->slot_bytes;
    region->size = region->reserved = slots * store->slot_bytes;
    if (slab_region_fill(region) < 0)
        return SLAB_OS;
    for (uint32_t i = 0; i < slots; i++)
        store->slots[batch->first + i] = batch;
    batch->store = store;
    batch->slots = slots;
    store->next = batch->first + slots;
    return SLAB_OK;
}

static size_t room_of(size_t size) {
    return (sizeof(slab_kept) + size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

/* How many of the rows fit, and their bytes with headers. */
static size_t count_fitting(const slab_batch *batch, const slab_row *rows, size_t count,
                            size_t *bytes) {
    size_t left = batch->region.size - batch->used, n = 0;
    *bytes = 0;
    while (n < count && room_of(rows[n].size) <= left - *bytes)
        *bytes += room_of(rows[n++].size);
    return n;
}

static void compose(const slab_batch *batch, uint32_t kind, const slab_row *rows, size_t count,
                    unsigned char *to, uint64_t *places, uint64_t *sums) {
    const slab_store *store = batch->store;
    size_t start = batch->first * store->slot_bytes + batch->used, at = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t size = rows[i].size;
        slab_kept head = {slab_cookie(slab_registry_view()->secret, store->uid, start + at),
                          rows[i].a, rows[i].b, size, kind};
        memcpy(to + at, &head, sizeof head);
        memcpy(to + at + sizeof head, rows[i].data, size);
        places[i] = start + at;
        sums[i] = slab_sum(to + at, sizeof head + size);
        at += room_of(size);
    }
}

slab_status slab_batch_put(slab_batch *batch, uint32_t kind, const slab_row *rows, size_t count,
                           uint64_t *places, size_t *done) {
    size_t bytes;
    *done = 0;
    if (!batch->store)
        return SLAB_STALE;
    if (batch->store->process != slab_process())
        return SLAB_FORKED;
    if (kind >= batch->store->kinds) {
        errno = EINVAL;
        return SLAB_OS;
    }
    size_t fitting = batch->region.sealed ? 0 : count_fitting(batch, rows, count, &bytes);
    if (!fitting)
        return SLAB_OK;
    uint64_t *sums = realloc(batch->sums, (batch->objects + fitting) * sizeof *sums);
    unsigned char *scratch = calloc(1, bytes);
    slab_status status = SLAB_OS;
    if (sums)
        batch->sums = sums;
    if (sums && scratch) {
        compose(batch, kind, rows, fitting, scratch, places, sums + batch->objects);
        status = slab_region_publish(&batch->region, batch->used, scratch, bytes);
    }
    int saved = errno;
    free(scratch);
    errno = saved;
    if (status != SLAB_OK)
        return status;
    batch->used += bytes;
    batch->objects += fitting;
    *done = fitting;
    return SLAB_OK;
}

slab_status slab_batch_seal(slab_batch *batch) {
    if (!batch->store)
        return SLAB_STALE;
    if (batch->store->process != slab_process())
        return SLAB_FORKED;
    return slab_region_seal(&batch->region, 0) < 0 ? SLAB_OS : SLAB_OK;
}

/* The memory goes at once; its addresses are kept, without access. Where the system refuses that
 * (too many mappings) the slots are not used again. */
void slab_batch_close(slab_batch *batch) {
    if (batch->store) {
        slab_batch *next = slab_region_empty(&batch->region) < 0 ? &lost : NULL;
        for (uint32_t i = 0; i < batch->slots; i++)
            batch->store->slots[batch->first + i] = next;
    }
    free(batch->sums);
    batch->sums = NULL;
    batch->store = NULL;
}

/* ---- reading */
static int is_kept(const slab_entry *entry, size_t offset, size_t end) {
    const slab_kept *head = (const slab_kept *)(entry->view + offset);
    return head->cookie == slab_cookie(slab_registry_view()->secret, entry->uid, offset) &&
           head->size <= end - offset - sizeof *head;
}

/* Where the objects of the batch at an offset begin and end; NULL: no batch is there. */
static const slab_batch *batch_at(const slab_store *store, size_t offset, size_t *start,
                                  size_t *end) {
    if (offset >= store->nslots * store->slot_bytes)
        return NULL;
    const slab_batch *batch = store->slots[offset / store->slot_bytes];
    if (!batch || batch == &lost)
        return NULL;
    *start = batch->first * store->slot_bytes;
    *end = *start + batch->region.size;
    return batch;
}

const slab_kept *slab_store_find(const slab_store *store, uint64_t place, uint32_t kind,
                                 uint64_t a, uint64_t b) {
    size_t start, end;
    const slab_entry *entry = &slab_registry_view()->arenas[store->entry % SLAB_MAX_ARENAS];
    if (!store->uid || entry->uid != store->uid || place % ALIGNMENT ||
        place > entry->size - sizeof(slab_kept))
        return NULL;
    if (!batch_at(store, (size_t)place, &start, &end) || end > entry->size ||
        place + sizeof(slab_kept) > end || !is_kept(entry, (size_t)place, end))
        return NULL;
    const slab_kept *head = (const slab_kept *)(entry->view + place);
    return head->kind == kind && head->a == a && head->b == b ? head : NULL;
}

static size_t verify_batch(const slab_store *store, const slab_batch *batch,
                           void (*tell)(void *, size_t offset), void *context) {
    const unsigned char *view = store->region.view;
    size_t at = batch->first * store->slot_bytes, end = at + batch->used, bad = 0;
    for (size_t i = 0; i < batch->objects && at < end; i++) {
        uint32_t size = ((const slab_kept *)(view + at))->size;
        int fits = room_of(size) <= end - at;
        if (!fits || slab_sum(view + at, sizeof(slab_kept) + size) != batch->sums[i]) {
            bad++;
            if (tell)
                tell(context, at);
        }
        if (!fits)
            break; /* what follows cannot be found any more */
        at += room_of(size);
    }
    return bad;
}

int slab_store_in_use(const slab_store *store) {
    for (uint32_t i = 0; i < store->nslots; i++)
        if (store->slots[i] && store->slots[i] != &lost)
            return 1;
    return 0;
}

size_t slab_store_verify(slab_store *store, void (*tell)(void *, size_t offset), void *context) {
    size_t bad = 0;
    for (uint32_t s = 0; s < store->nslots; s++)
        if (store->slots[s] && store->slots[s]->first == s)
            bad += verify_batch(store, store->slots[s], tell, context);
    return bad;
}

/* ---- for the report */
int slab_store_mapped(const slab_entry *entry, size_t offset) {
    size_t start, end;
    const slab_store *store = known[entry - slab_registry_view()->arenas];
    return store && batch_at(store, offset, &start, &end) != NULL;
}

static void append(slab_site *site, const char *text) {
    size_t at = strlen(site->name);
    while (*text && at + 1 < sizeof site->name)
        site->name[at++] = *text++;
    site->name[at] = 0;
}

static void name_of(const slab_entry *entry, const slab_kept *head, slab_site *site) {
    char digits[24];
    size_t at = sizeof digits - 1;
    uint64_t value = head->a;
    if (head->kind >= entry->kinds->count)
        return;
    memcpy(site->cache, entry->kinds->names[head->kind], sizeof site->cache);
    digits[at] = 0;
    do
        digits[--at] = (char)('0' + value % 10);
    while (value /= 10);
    append(site, site->cache);
    append(site, "[");
    append(site, digits + at);
    append(site, "]");
}

/* Walk the batch's objects up to the one that holds the offset, or the last below it. */
void slab_store_site(const slab_entry *entry, size_t offset, slab_site *site) {
    size_t at, end;
    const slab_store *store = known[entry - slab_registry_view()->arenas];
    memset(site, 0, sizeof *site);
    site->page = offset / slab_page();
    site->what = "unused page";
    const slab_batch *batch = store ? batch_at(store, offset, &at, &end) : NULL;
    const slab_kept *last = NULL;
    if (!batch)
        return;
    while (at + sizeof(slab_kept) <= end && at <= offset && is_kept(entry, at, end)) {
        last = (const slab_kept *)(entry->view + at);
        if (offset < at + sizeof *last + last->size)
            break;
        at += room_of(last->size);
        site->slot++;
    }
    if (!last) {
        site->what = "free room of a batch";
        return;
    }
    name_of(entry, last, site);
    size_t start = (size_t)((const unsigned char *)last - entry->view);
    site->byte = offset - start - sizeof *last;
    if (offset < start + sizeof *last) {
        site->what = "header";
        site->byte = offset - start - sizeof(slab_header); /* as of an arena's objects */
    } else if (site->byte < last->size) {
        site->what = "kept object";
    } else {
        site->what = offset < start + room_of(last->size) ? "padding" : "free room of a batch";
    }
}
