/* Write-once memory: what the files of the extension share.
 *
 * Two kinds of memory are told apart throughout. *Protected* memory is a region: published by
 * its backend, then only read; all that reads depend on lies there: objects, their headers, the
 * tables that say which page belongs to which cache, field tables, the table of arenas, the
 * secret. *Bookkeeping* (freelists, checksums, counts) is ordinary memory; it steers only where
 * the next object goes and what verify() compares with, never what a read returns.
 */
#ifndef WOFS_SLAB_H
#define WOFS_SLAB_H

#include <stddef.h>
#include <stdint.h>

#define SLAB_NAME_MAX 32
#define SLAB_MAX_ARENAS 1024
#define SLAB_MAX_CACHES 64
#define SLAB_NO_INDEX 0xFFFFFFFFu
#define SLAB_FREE_CACHE 0xFFu
#define SLAB_SERIAL_MAX ((1ULL << 48) - 1)
#define SLAB_POISON 0xDE
/* An arena's memory is given to caches by runs of units, so that a page serves several caches. */
#define SLAB_UNIT 128
#define SLAB_UNITS_MAX 512 /* of a run: pages have at most 64 KiB */
#define SLAB_RUN_START 0x80u /* of a unit's owner; the rest is the cache's number plus one */

/* What can go wrong, beside the system's own errors. */
typedef enum {
    SLAB_OK = 0,
    SLAB_OS,       /* errno says */
    SLAB_FULL,     /* no room */
    SLAB_FINISHED, /* sealed: nothing is created or freed */
    SLAB_STALE,    /* freed, reused, or its arena closed */
    SLAB_BUSY,     /* a buffer of it is exported */
    SLAB_TOO_BIG,  /* an object larger than a page */
    SLAB_LONG_NAME, /* beyond SLAB_NAME_MAX */
    SLAB_LOST,     /* the view does not show what was published */
    SLAB_WHOLE,    /* a pool's objects are not freed singly */
    SLAB_FORKED,   /* the arena belongs to the parent process */
} slab_status;

/* ---- region.c, backend_*.c: a stretch of protected memory between guards */
typedef struct slab_backend slab_backend;

typedef struct slab_region {
    const slab_backend *backend;
    unsigned char *base; /* of the reservation, NULL when closed */
    size_t reserved;     /* bytes, guards included */
    unsigned char *view; /* what is read */
    size_t size;         /* bytes of the view, whole pages */
    int fd;              /* the writer's descriptor, -1: none (any more) */
    int sealed;
    int locked;          /* mseal'ed: stays mapped until the process ends */
    int key;             /* of the pkey backend */
    struct slab_region *next, **link; /* among those with a writer, whose place is not to change */
} slab_region;

/* Each call returns 0, or -1 with errno set. */
struct slab_backend {
    const char *name;
    int (*open)(slab_region *region);
    int (*write)(slab_region *region, size_t offset, const void *data, size_t bytes);
    int (*seal)(slab_region *region);
    int whole; /* protected at once by seal: until then nothing is, and nothing is freed singly */
};

extern const slab_backend slab_memfd, slab_alias, slab_pkey, slab_shared, slab_mprotect, slab_pool,
    slab_none;

size_t slab_page(void);
size_t slab_guard(void);
const slab_backend *slab_backend_called(const char *name);
/* "auto" takes the first backend that this machine grants, never "none". */
int slab_region_open(slab_region *region, size_t bytes, const char *backend);
/* Take memory for addresses that are reserved: backend, base, view and sizes are filled in. */
int slab_region_fill(slab_region *region);
/* Give that memory back; its addresses stay, without access. */
int slab_region_empty(slab_region *region);
int slab_region_write(slab_region *region, size_t offset, const void *data, size_t bytes);
/* Write, and read back through the view. */
slab_status slab_region_publish(slab_region *region, size_t offset, const void *data, size_t bytes);
int slab_region_seal(slab_region *region, int process_lifetime);
int slab_region_move(slab_region *region); /* in a forked child: same bytes, memory of its own */
void slab_region_close(slab_region *region);
/* The process, as whoever opens a region notes it: what it publishes in a child of that one would
 * show in its parent. A child has no writer but its own. */
long slab_process(void);

/* ---- registry.c: one protected region for the process */

/* One field of a record: where it lies in an object and how it is read. */
typedef struct {
    char name[SLAB_NAME_MAX];
    uint32_t offset; /* bytes from the object's start */
    uint32_t count;  /* items, or bytes for code 's' */
    uint32_t item;   /* bytes of an item */
    uint32_t end;    /* bytes from the object's start to behind it */
    char code;       /* struct's letter */
    char is_one;     /* number, not several or bytes */
} slab_field;

/* The layout of one record type; never freed. */
typedef struct {
    uint64_t magic;
    char name[SLAB_NAME_MAX];
    uint32_t size; /* bytes of an object */
    uint32_t nfields;
    slab_field fields[];
} slab_layout;

/* An arena as readers and the crash report see it. */
typedef struct {
    uint64_t uid; /* 0: no arena */
    unsigned char *base;
    unsigned char *view;
    size_t reserved;
    size_t size;
    uint32_t pages; /* of objects and control data together */
    uint32_t first, end; /* units of objects: [first, end) */
    uint32_t sealed;
    char backend[12];
    char label[16]; /* what a report calls the kind of object */
    const struct slab_kinds *kinds; /* of a store of batches (batch.h); NULL: pages of objects */
} slab_entry;

typedef struct {
    uint64_t secret;
    slab_entry arenas[SLAB_MAX_ARENAS];
} slab_registry;

slab_status slab_registry_open(void);
extern slab_region slab_registry_memory;

/* NULL until opened; here, since every read needs it. */
static inline const slab_registry *slab_registry_view(void) {
    return (const slab_registry *)slab_registry_memory.view;
}
const slab_region *slab_registry_region(void);
/* Publish bytes for ever; `at` is where they are read. */
slab_status slab_registry_append(const void *data, size_t bytes, const void **at);
/* Say where the next bytes would lie, so that they may speak of their own address. */
slab_status slab_registry_room(size_t bytes, const void **at);
slab_status slab_registry_add(const slab_entry *entry, uint32_t *slot);
slab_status slab_registry_set(uint32_t slot, const slab_entry *entry);
int slab_registry_seal(void);
slab_status slab_layout_publish(slab_layout *layout, size_t bytes, size_t *id);
const slab_layout *slab_layout_at(size_t id); /* NULL: no layout has that id */
size_t slab_layout_id(const slab_layout *layout);

/* ---- arena.c, cache.c */

/* What stands before each object. A free slot has cache SLAB_FREE_CACHE and a dead cookie. */
typedef struct {
    uint64_t cookie;      /* secret, arena and offset mixed */
    uint64_t serial : 48; /* never used twice in a process */
    uint64_t size : 16;   /* bytes of the object */
    uint32_t index;       /* number under that name, or SLAB_NO_INDEX */
    uint16_t name;        /* offset of the name's text among the names */
    uint8_t cache;
    uint8_t unused;
} slab_header;

/* A cache as the control area has it. */
typedef struct {
    uint32_t layout; /* its id; 0: no cache */
    uint32_t stride; /* bytes from a slot to the next, header included */
} slab_cache_entry;

/* Bookkeeping of one run: consecutive units that belong to one cache. */
typedef struct {
    uint32_t start, units;
    uint32_t slots, used; /* in all, and those that hold an object */
    unsigned char *taken; /* per slot */
    uint16_t *exports;  /* per slot: buffers handed out */
    uint64_t *sums;     /* per slot: checksum taken when it was published */
} slab_run;

/* Bookkeeping of one cache. */
typedef struct {
    const slab_layout *layout;
    uint32_t stride;
    uint32_t per_run; /* slots of a run of a batch: what leaves least of a page unused */
    uint32_t grow;    /* slots of the next run that one object needs */
    slab_run **runs;
    slab_run *recent; /* where the last object was put, or NULL */
    size_t nruns, room;
    size_t objects, freed;
    size_t free_slots;
} slab_cache;

typedef struct {
    slab_region region;
    uint32_t slot; /* in the registry */
    uint64_t uid;
    uint32_t pages;
    uint32_t first, end; /* units of objects: [first, end) */
    uint32_t next;       /* the lowest unit that never belonged to a cache */
    uint32_t holes;      /* units below that belong to none */
    uint32_t too_long;   /* no row of so many of them is left; 0: not known */
    size_t near, far;    /* bytes of names so far, in either place */
    slab_run **books;    /* per unit: the run that starts there, or NULL */
    slab_cache caches[SLAB_MAX_CACHES];
    uint32_t ncaches;
    long process; /* the one that may write */
} slab_arena;

/* Where an object is. */
typedef struct {
    size_t offset;   /* of the header in the view */
    uint64_t serial;
} slab_place;

/* An object, as verify() and locate() tell of it. */
typedef struct {
    char name[SLAB_NAME_MAX + 24]; /* a number of 64 bits in brackets has room */
    char cache[SLAB_NAME_MAX];
    const slab_field *field; /* NULL: none */
    size_t page, slot;
    size_t byte; /* of the object; its header lies at minus sizeof(slab_header) on, wrapped */
    const char *what;        /* "object", "header", "free object", ... */
} slab_site;

slab_status slab_arena_open(slab_arena *arena, size_t pages, const char *backend,
                            const char *label);
slab_status slab_arena_cache(slab_arena *arena, const slab_layout *layout, uint32_t *cache);
slab_status slab_arena_init(slab_arena *arena, uint32_t cache, const char *name,
                            const void *data, slab_place *place);
slab_status slab_arena_batch(slab_arena *arena, uint32_t cache, const char *name, size_t count,
                             const void *data, slab_place *place);
slab_status slab_arena_free(slab_arena *arena, slab_place place);
slab_status slab_arena_finish(slab_arena *arena, int process_lifetime);
void slab_arena_close(slab_arena *arena);
/* Call `tell` for each object whose bytes are not those that were published. */
size_t slab_arena_verify(slab_arena *arena, void (*tell)(void *, size_t offset), void *context);
slab_status slab_arena_export(slab_arena *arena, size_t offset, int change);

/* The finaliser of splitmix64: each bit of the result depends on each bit put in. */
static inline uint64_t slab_mixed(uint64_t x) {
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ULL;
    x = (x ^ x >> 27) * 0x94d049bb133111ebULL;
    return x ^ x >> 31;
}

/* What stands before the object at an offset of an arena; here, since every read computes it. */
static inline uint64_t slab_cookie(uint64_t secret, uint64_t uid, size_t offset) {
    return slab_mixed(secret ^ (uid << 40 ^ offset));
}

/* Where the control data of an arena lie: who owns each unit (a byte each, from the view's start),
 * its caches, its names. */
const slab_cache_entry *slab_entry_caches(const slab_entry *entry);
const char *slab_entry_name(const slab_entry *entry, uint32_t name); /* NULL: there is none */
/* The first unit of the run that a unit belongs to and its cache; SLAB_NO_INDEX: to none. */
uint32_t slab_entry_run(const slab_entry *entry, size_t unit, uint32_t *cache);

/* Signal-safe: say what lies at an offset of an arena's view. */
void slab_site_at(const slab_entry *entry, size_t offset, slab_site *site);

#endif
