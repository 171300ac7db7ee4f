/* Regions: a view between guards that no access survives, whatever the backend. */
#define _GNU_SOURCE
#include "slab.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef __NR_mseal
#define __NR_mseal 462
#endif

#define GUARD_PAGES 16

/* What "auto" tries, in the order of their strength. Then those that must be asked for: alias
 * needs what memfd needs and is weaker; pkey would blind threads that are there already; a pool
 * is protected only once it is full. */
static const slab_backend *const backends[] = {&slab_memfd, &slab_shared, &slab_mprotect,
                                               &slab_alias, &slab_pkey,   &slab_pool,
                                               &slab_none};
#define NBACKENDS (sizeof backends / sizeof *backends)
#define NAUTO 3

size_t slab_page(void) {
#ifdef SLAB_PAGE_SIZE_TEST /* a multiple of the machine's, to test as if its pages were larger */
    return SLAB_PAGE_SIZE_TEST;
#else
    return (size_t)sysconf(_SC_PAGESIZE);
#endif
}

size_t slab_guard(void) {
    return GUARD_PAGES * slab_page();
}

const slab_backend *slab_backend_called(const char *name) {
    for (size_t i = 0; i < NBACKENDS; i++)
        if (strcmp(backends[i]->name, name) == 0)
            return backends[i];
    return NULL;
}

/* ---- forks */

/* The regions with a descriptor to write by. */
static slab_region *writers;

static void leave(slab_region *region) {
    if (region->link) {
        *region->link = region->next;
        if (region->next)
            region->next->link = region->link;
    }
    region->next = NULL;
    region->link = NULL;
}

static void drop_writer(slab_region *region) {
    if (region->fd >= 0)
        close(region->fd);
    region->fd = -1;
    leave(region);
}

static void in_child(void) {
    while (writers)
        drop_writer(writers);
}

/* Each step leaves a whole list: another thread may fork between two. */
static void join(slab_region *region) {
    static int watching;
    if (!watching && pthread_atfork(NULL, NULL, in_child) == 0)
        watching = 1;
    region->link = &writers;
    region->next = writers;
    if (writers)
        writers->link = &region->next;
    writers = region;
}

/* A word that is zero in each new process, also in one that the C library knows nothing of, and
 * costs no system call; NULL: the kernel has no such memory (before Linux 4.14). */
static long *emptied_by_fork(void) {
    static int tried;
    static long *word;
    if (tried)
        return word;
    tried = 1;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    void *made = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (made == MAP_FAILED)
        return NULL;
    if (madvise(made, page, MADV_WIPEONFORK) < 0)
        munmap(made, page);
    else
        word = made;
    return word;
}

long slab_process(void) {
    long *word = emptied_by_fork();
    if (!word)
        return getpid();
    if (!*word)
        *word = getpid();
    return *word;
}

/* ---- opening */
int slab_region_fill(slab_region *region) {
    if (region->backend->open(region) < 0)
        return -1;
    if (region->fd >= 0)
        join(region);
    return 0;
}

int slab_region_empty(slab_region *region) {
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE;
    void *now = mmap(region->view, region->size, PROT_NONE, flags, -1, 0);
    drop_writer(region);
    return now == MAP_FAILED ? -1 : 0;
}

static int open_with(slab_region *region, size_t size, const slab_backend *backend) {
    size_t guard = slab_guard();
    memset(region, 0, sizeof *region);
    region->fd = -1;
    region->size = size;
    region->reserved = size + 2 * guard;
    void *base = mmap(NULL, region->reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED)
        return -1;
    region->base = base;
    region->view = region->base + guard;
    region->backend = backend;
    if (slab_region_fill(region) == 0)
        return 0;
    int saved = errno;
    slab_region_close(region);
    errno = saved;
    return -1;
}

int slab_region_open(slab_region *region, size_t bytes, const char *backend) {
    size_t page = slab_page();
    if (bytes == 0 || bytes > SIZE_MAX / 4) {
        errno = EINVAL;
        return -1;
    }
    size_t size = (bytes + page - 1) / page * page;
    if (strcmp(backend, "auto") != 0) {
        const slab_backend *named = slab_backend_called(backend);
        if (named)
            return open_with(region, size, named);
        errno = EINVAL;
        return -1;
    }
    for (size_t i = 0; i < NAUTO; i++)
        if (open_with(region, size, backends[i]) == 0)
            return 0;
    return -1;
}

int slab_region_write(slab_region *region, size_t offset, const void *data, size_t bytes) {
    if (region->sealed || !region->base) {
        errno = EPERM;
        return -1;
    }
    if (offset > region->size || bytes > region->size - offset) {
        errno = EINVAL;
        return -1;
    }
    return region->backend->write(region, offset, data, bytes);
}

slab_status slab_region_publish(slab_region *region, size_t offset, const void *data,
                                size_t bytes) {
    if (slab_region_write(region, offset, data, bytes) < 0)
        return SLAB_OS;
    return memcmp(region->view + offset, data, bytes) ? SLAB_LOST : SLAB_OK;
}

int slab_region_seal(slab_region *region, int process_lifetime) {
    if (!region->sealed && region->backend->seal(region) < 0)
        return -1;
    region->sealed = 1;
    if (region->fd < 0)
        leave(region);
    /* Refused before Linux 6.10 and by some sandboxes: then the view could still be unmapped,
     * though not be written. `locked` tells. */
    if (process_lifetime && !region->locked && region->backend != &slab_none)
        region->locked = syscall(__NR_mseal, region->base, region->reserved, 0UL) == 0;
    return 0;
}

int slab_region_move(slab_region *region) {
    slab_region copy;
    unsigned char *bytes = malloc(region->size);
    if (!bytes)
        return -1;
    memcpy(bytes, region->view, region->size);
    drop_writer(region); /* it is the parent's */
    copy = *region;
    int failed = copy.backend->open(&copy) < 0 || copy.backend->write(&copy, 0, bytes, copy.size) < 0;
    free(bytes);
    if (failed)
        return -1;
    *region = copy;
    if (region->fd >= 0)
        join(region);
    return 0;
}

void slab_region_close(slab_region *region) {
    if (region->base && !region->locked)
        munmap(region->base, region->reserved);
    drop_writer(region);
    region->base = NULL;
    region->view = NULL;
}
