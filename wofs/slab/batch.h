/* Stores: objects of any size in batches, each batch protected, sealed and given back whole.
 *
 * For what may be evicted. An object carries its key, which is compared at each use, so that
 * whoever remembers where it lies need not be trusted: a wrong place is no object, or another's.
 */
#ifndef WOFS_SLAB_BATCH_H
#define WOFS_SLAB_BATCH_H

#include "slab.h"

#define SLAB_MAX_KINDS 32
#define SLAB_MAX_SLOTS (1u << 20) /* of a store */

/* What stands before each object. */
typedef struct {
    uint64_t cookie; /* secret, store and offset mixed */
    uint64_t a, b;   /* its key, with the kind */
    uint32_t size;   /* bytes of the object */
    uint32_t kind;
} slab_kept;

/* What reports call the kinds; in the registry. */
typedef struct slab_kinds {
    const struct slab_kinds *earlier; /* that were published before */
    uint32_t count;
    char names[SLAB_MAX_KINDS][SLAB_NAME_MAX];
} slab_kinds;

typedef struct slab_store slab_store;

/* Bookkeeping of one batch. */
typedef struct {
    slab_store *store;  /* NULL: given back */
    slab_region region; /* within the store's */
    uint32_t first, slots;
    size_t used;     /* bytes, headers included */
    size_t objects;
    uint64_t *sums;  /* per object: checksum taken when it was published */
} slab_batch;

struct slab_store {
    slab_region region; /* all of the reservation; nothing is mapped but batches */
    const slab_backend *backend;
    uint32_t entry; /* in the registry */
    uint64_t uid;
    uint32_t nslots, next;
    size_t slot_bytes;
    uint32_t kinds;
    slab_batch **slots; /* per slot: the batch that has it, or had it and could not give it back */
    long process; /* the one that may write */
};

typedef struct {
    uint64_t a, b;
    const void *data;
    uint32_t size;
} slab_row;

slab_status slab_store_open(slab_store *store, uint32_t nslots, size_t slot_bytes,
                            const char *backend, const char *label, slab_kinds *kinds);
void slab_store_close(slab_store *store);
/* Make a batch with room for an object of that many bytes at least. */
slab_status slab_batch_open(slab_store *store, slab_batch *batch, size_t bytes);
/* Publish the first of the rows, as many as fit, at once; `places` says where, `done` how many. */
slab_status slab_batch_put(slab_batch *batch, uint32_t kind, const slab_row *rows, size_t count,
                           uint64_t *places, size_t *done);
slab_status slab_batch_seal(slab_batch *batch);
void slab_batch_close(slab_batch *batch);
/* The object at a place if it has that key, else NULL. */
const slab_kept *slab_store_find(const slab_store *store, uint64_t place, uint32_t kind,
                                 uint64_t a, uint64_t b);
int slab_store_in_use(const slab_store *store); /* whether there is a batch */
size_t slab_store_verify(slab_store *store, void (*tell)(void *, size_t offset), void *context);

/* Signal-safe. */
void slab_store_site(const slab_entry *entry, size_t offset, slab_site *site);
int slab_store_mapped(const slab_entry *entry, size_t offset);

#endif
