/* The memfd backend: published by pwrite, seen only through a read-only view, sealed.
 *
 * No page of an arena is ever mapped writable. The view comes from a descriptor re-opened
 * read-only, so the kernel itself refuses to make it writable later; F_SEAL_WRITE at the end
 * proves that no writable mapping is left and refuses every later write through any
 * descriptor (memfd_create(2), fcntl(2) "File Sealing").
 */
#define _GNU_SOURCE
#include "slab.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif
#ifndef __NR_mseal
#define __NR_mseal 462
#endif

static int open_memfd(size_t bytes) {
    int fd = memfd_create("wofs-slab", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
    if (fd < 0 && errno == EINVAL) /* before Linux 6.3 */
        fd = memfd_create("wofs-slab", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -1;
    if (ftruncate(fd, (off_t)bytes) < 0 || fchmod(fd, 0400) < 0) {
        int saved = errno;
        close(fd);
        errno = saved;
        return -1;
    }
    return fd;
}

static int reopen_readonly(int fd) {
    char path[40];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return open(path, O_RDONLY | O_CLOEXEC);
}

/* Map the view between guards that no access survives. */
static int map_view(slab_arena *arena, int readonly_fd) {
    size_t guard = (size_t)sysconf(_SC_PAGESIZE);
    arena->reserved = arena->size + 2 * guard;
    void *base = mmap(NULL, arena->reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED)
        return -1;
    arena->base = base;
    arena->view = mmap(arena->base + guard, arena->size, PROT_READ, MAP_SHARED | MAP_FIXED,
                       readonly_fd, 0);
    return arena->view == MAP_FAILED ? -1 : 0;
}

int slab_arena_open(slab_arena *arena, size_t bytes) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    memset(arena, 0, sizeof *arena);
    arena->size = (bytes + page - 1) / page * page;
    arena->fd = open_memfd(arena->size);
    if (arena->fd < 0)
        return -1;
    int readonly_fd = reopen_readonly(arena->fd);
    int failed = readonly_fd < 0 || map_view(arena, readonly_fd) < 0;
    int saved = errno;
    if (readonly_fd >= 0)
        close(readonly_fd);
    if (failed) {
        slab_arena_close(arena);
        errno = saved;
        return -1;
    }
    return 0;
}

/* Publish bytes beyond all that is published: what is there can not be written again. */
int slab_arena_append(slab_arena *arena, size_t offset, const void *data, size_t bytes) {
    const unsigned char *from = data;
    if (arena->fd < 0 || offset < arena->used || offset > arena->size ||
        bytes > arena->size - offset) {
        errno = EINVAL;
        return -1;
    }
    size_t done = 0;
    while (done < bytes) {
        ssize_t n = pwrite(arena->fd, from + done, bytes - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -1;
        done += (size_t)n;
    }
    arena->used = offset + bytes;
    return 0;
}

int slab_arena_seal(slab_arena *arena, int process_lifetime) {
    int seals = F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL;
    if (arena->sealed)
        return 0;
    if (fcntl(arena->fd, F_ADD_SEALS, seals) < 0)
        return -1;
    close(arena->fd);
    arena->fd = -1;
    arena->sealed = 1;
    /* Refused before Linux 6.10 and by some sandboxes: then the view could still be unmapped,
     * never written. `locked` tells. */
    if (process_lifetime && syscall(__NR_mseal, arena->base, arena->reserved, 0UL) == 0)
        arena->locked = 1;
    return 0;
}

void slab_arena_close(slab_arena *arena) {
    if (arena->base && !arena->locked)
        munmap(arena->base, arena->reserved);
    if (arena->fd >= 0)
        close(arena->fd);
    arena->base = NULL;
    arena->view = NULL;
    arena->fd = -1;
}
