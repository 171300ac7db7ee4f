/* Memory protection keys: the right to write is one thread's, for the time of a publication.
 *
 * The pages are mapped writable, but carry a key whose write right every thread lacks; the
 * publishing thread takes it for a memcpy (WRPKRU, no system call) and drops it. Threads that
 * were there before the key see the pages not at all, so an arena must be made before them.
 * Only some processors have keys: elsewhere opening fails and another backend is taken.
 */
#define _GNU_SOURCE
#include "slab.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int pkey_open(slab_region *region) {
    int flags = MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED;
    int key = pkey_alloc(0, PKEY_DISABLE_WRITE);
    if (key < 0)
        return -1;
    if (mmap(region->view, region->size, PROT_READ, flags, -1, 0) == MAP_FAILED ||
        pkey_mprotect(region->view, region->size, PROT_READ | PROT_WRITE, key) < 0) {
        int saved = errno;
        pkey_free(key);
        errno = saved;
        return -1;
    }
    region->key = key;
    return 0;
}

static int pkey_write(slab_region *region, size_t offset, const void *data, size_t bytes) {
    if (pkey_set(region->key, 0) < 0)
        return -1;
    memcpy(region->view + offset, data, bytes);
    return pkey_set(region->key, PKEY_DISABLE_WRITE);
}

/* From here on no right can be taken any more: the pages themselves are read-only. */
static int pkey_seal(slab_region *region) {
    if (pkey_mprotect(region->view, region->size, PROT_READ, 0) < 0)
        return -1;
    return pkey_free(region->key);
}

const slab_backend slab_pkey = {"pkey", pkey_open, pkey_write, pkey_seal, 0};
