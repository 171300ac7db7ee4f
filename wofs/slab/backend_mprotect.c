/* Anonymous memory made writable for the time of a publication: where no memfd can be had.
 *
 * Weaker than memfd: while an object is published its whole page is writable, for every thread.
 * `shared` comes first, since a shared mapping refuses writes through /proc/PID/mem and ptrace,
 * which force their way into a private one.
 */
#define _GNU_SOURCE
#include "slab.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

static int map_anonymous(slab_region *region, int kind, int protection) {
    int flags = kind | MAP_ANONYMOUS | MAP_FIXED;
    if (mmap(region->view, region->size, protection, flags, -1, 0) == MAP_FAILED)
        return -1;
    /* The name is for readers of /proc/PID/maps; older kernels have none. */
    (void)prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, region->view, region->size, "wofs-slab");
    return 0;
}

static int shared_open(slab_region *region) {
    return map_anonymous(region, MAP_SHARED, PROT_READ);
}

static int private_open(slab_region *region) {
    return map_anonymous(region, MAP_PRIVATE, PROT_READ);
}

static int window_write(slab_region *region, size_t offset, const void *data, size_t bytes) {
    size_t page = slab_page();
    size_t first = offset / page * page;
    size_t span = (offset + bytes + page - 1) / page * page - first;
    if (mprotect(region->view + first, span, PROT_READ | PROT_WRITE) < 0)
        return -1;
    memcpy(region->view + offset, data, bytes);
    return mprotect(region->view + first, span, PROT_READ);
}

static int window_seal(slab_region *region) {
    return mprotect(region->view, region->size, PROT_READ);
}

/* A pool in the manner of pmalloc: writable for every thread while it is filled, then protected
 * whole, by one call at the end. Its window is the whole time of filling, not that of one object;
 * nothing of it is freed singly, since that would take the protection from all the rest. */
static int pool_open(slab_region *region) {
    return map_anonymous(region, MAP_SHARED, PROT_READ | PROT_WRITE);
}

static int open_write(slab_region *region, size_t offset, const void *data, size_t bytes) {
    memcpy(region->view + offset, data, bytes);
    return 0;
}

/* Ordinary memory under the same interface: the control of experiments, never chosen by itself. */
static int none_open(slab_region *region) {
    return map_anonymous(region, MAP_PRIVATE, PROT_READ | PROT_WRITE);
}

static int none_seal(slab_region *region) {
    (void)region;
    return 0;
}

const slab_backend slab_shared = {"shared", shared_open, window_write, window_seal, 0};
const slab_backend slab_mprotect = {"mprotect", private_open, window_write, window_seal, 0};
const slab_backend slab_pool = {"pool", pool_open, open_write, window_seal, 1};
const slab_backend slab_none = {"none", none_open, open_write, none_seal, 0};
