/* The memfd backend: published by pwrite, seen only through a read-only view, sealed.
 *
 * No page is ever mapped writable, in any thread. The view comes from a descriptor re-opened
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
#include <unistd.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

static int keep_errno_close(int fd) {
    int saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

static int make_memfd(size_t bytes) {
    int fd = memfd_create("wofs-slab", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
    if (fd < 0 && errno == EINVAL) /* before Linux 6.3 */
        fd = memfd_create("wofs-slab", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -1;
    /* Mode 0400: whoever is not root cannot re-open it for writing through /proc. A sandbox may
     * refuse to write at an offset: better known now than when the first object is published. */
    if (ftruncate(fd, (off_t)bytes) < 0 || fchmod(fd, 0400) < 0 || pwrite(fd, "", 0, 0) < 0)
        return keep_errno_close(fd);
    return fd;
}

static int map_readonly(const slab_region *region, int fd) {
    char path[40];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int readonly = open(path, O_RDONLY | O_CLOEXEC);
    if (readonly < 0)
        return -1;
    void *view = mmap(region->view, region->size, PROT_READ, MAP_SHARED | MAP_FIXED, readonly, 0);
    keep_errno_close(readonly);
    return view == MAP_FAILED ? -1 : 0;
}

static int memfd_open(slab_region *region) {
    int fd = make_memfd(region->size);
    if (fd < 0)
        return -1;
    if (map_readonly(region, fd) < 0)
        return keep_errno_close(fd);
    region->fd = fd;
    return 0;
}

static int memfd_write(slab_region *region, size_t offset, const void *data, size_t bytes) {
    const unsigned char *from = data;
    size_t done = 0;
    while (done < bytes) {
        ssize_t n = pwrite(region->fd, from + done, bytes - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n == 0)
            errno = ENOSPC;
        if (n <= 0)
            return -1;
        done += (size_t)n;
    }
    return 0;
}

static int memfd_seal(slab_region *region) {
    int seals = F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL;
    if (fcntl(region->fd, F_ADD_SEALS, seals) < 0)
        return -1;
    close(region->fd);
    region->fd = -1;
    return 0;
}

/* The same memory, published through a second mapping that is writable for that time: the
 * comparison. Who guesses the alias's address, which the kernel likes to give out again, writes. */
static int alias_write(slab_region *region, size_t offset, const void *data, size_t bytes) {
    size_t page = slab_page(), first = offset / page * page;
    size_t span = (offset + bytes + page - 1) / page * page - first;
    unsigned char *alias =
        mmap(NULL, span, PROT_READ | PROT_WRITE, MAP_SHARED, region->fd, (off_t)first);
    if (alias == MAP_FAILED)
        return -1;
    memcpy(alias + (offset - first), data, bytes);
    return munmap(alias, span);
}

const slab_backend slab_memfd = {"memfd", memfd_open, memfd_write, memfd_seal, 0};
const slab_backend slab_alias = {"alias", memfd_open, alias_write, memfd_seal, 0};
