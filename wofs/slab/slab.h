/* Write-once memory: what the files of the extension share. */
#ifndef WOFS_SLAB_H
#define WOFS_SLAB_H

#include <stddef.h>
#include <stdint.h>

#define SLAB_NAME_MAX 48
#define SLAB_MAX_ARENAS 256

/* One field of a record: where it lies in an object and how it is read. */
typedef struct {
    char name[SLAB_NAME_MAX];
    uint32_t offset; /* bytes from the object's start */
    uint32_t count;  /* items, or bytes for code 's' */
    char code;       /* struct's letter */
} slab_field;

/* The layout of one record type. Never freed: handles and reports refer to it. */
typedef struct {
    char name[SLAB_NAME_MAX];
    uint32_t size; /* bytes of an object */
    uint32_t nfields;
    slab_field fields[];
} slab_layout;

/* Where one published object, or one run of like objects, lies. */
typedef struct {
    const slab_layout *layout;
    size_t offset;  /* of the first object in the view */
    size_t stride;  /* bytes from one object to the next */
    size_t objects; /* how many */
    char prefix[SLAB_NAME_MAX];
    int indexed;    /* named prefix[i], not prefix */
} slab_site;

/* One arena: a memfd seen through a read-only view between two guard regions. */
typedef struct {
    unsigned char *base; /* start of the reservation, NULL when closed */
    size_t reserved;     /* its bytes, guards included */
    unsigned char *view; /* the read-only view */
    size_t size;         /* its bytes */
    size_t used;         /* bytes given to objects so far */
    int fd;              /* the writer, -1 once sealed */
    int sealed;
    int locked;          /* mseal'ed */
    slab_site *sites;
    size_t nsites;
} slab_arena;

/* memfd.c: each returns 0, or -1 with errno set. */
int slab_arena_open(slab_arena *arena, size_t bytes);
int slab_arena_append(slab_arena *arena, size_t offset, const void *data, size_t bytes);
int slab_arena_seal(slab_arena *arena, int process_lifetime);
void slab_arena_close(slab_arena *arena);

/* report.c */
int slab_report_install(void);
int slab_report_to(const char *path);
int slab_report_add(const slab_arena *arena);
void slab_report_remove(const slab_arena *arena);

#endif
