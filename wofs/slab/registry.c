/* The registry: what all arenas of the process share, in protected memory of its own.
 *
 * The secret, the table of arenas, the layouts of record types. A handle names its arena by
 * slot and uid and finds the view here, so that no pointer that a read follows lies in memory
 * that a stray write could change.
 */
#define _GNU_SOURCE
#include "slab.h"

#include <errno.h>
#include <sys/random.h>

#define REGISTRY_BYTES (1u << 20)
#define LAYOUT_MAGIC 0x74756f79616c2e66ULL
#define ALIGNMENT 16

slab_region slab_registry_memory;
static size_t used;
static long process; /* whose memory it is: a child's only once it has moved */

static int random_secret(uint64_t *secret) {
    ssize_t n;
    do
        n = getrandom(secret, sizeof *secret, 0);
    while (n < 0 && errno == EINTR);
    return n == (ssize_t)sizeof *secret ? 0 : -1;
}

slab_status slab_registry_open(void) {
    uint64_t secret;
    if (slab_registry_memory.base)
        return SLAB_OK;
    if (random_secret(&secret) < 0 || slab_region_open(&slab_registry_memory, REGISTRY_BYTES, "auto") < 0)
        return SLAB_OS;
    if (slab_region_write(&slab_registry_memory, 0, &secret, sizeof secret) < 0) {
        slab_region_close(&slab_registry_memory);
        return SLAB_OS;
    }
    used = (sizeof(slab_registry) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    process = slab_process();
    return SLAB_OK;
}

const slab_region *slab_registry_region(void) {
    return &slab_registry_memory;
}

/* Be ready to publish: after a fork in memory of our own. */
static slab_status writable(void) {
    slab_status status = slab_registry_open();
    if (status != SLAB_OK)
        return status;
    if (slab_registry_memory.sealed)
        return SLAB_FINISHED;
    if (process != slab_process()) {
        if (slab_region_move(&slab_registry_memory) < 0)
            return SLAB_OS;
        process = slab_process();
    }
    return SLAB_OK;
}

slab_status slab_registry_room(size_t bytes, const void **at) {
    slab_status status = writable();
    if (status != SLAB_OK)
        return status;
    if (bytes > slab_registry_memory.size - used)
        return SLAB_FULL;
    *at = slab_registry_memory.view + used;
    return SLAB_OK;
}

slab_status slab_registry_append(const void *data, size_t bytes, const void **at) {
    slab_status status = slab_registry_room(bytes, at);
    if (status != SLAB_OK)
        return status;
    if (slab_region_write(&slab_registry_memory, used, data, bytes) < 0)
        return SLAB_OS;
    used += (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (used > slab_registry_memory.size)
        used = slab_registry_memory.size;
    return SLAB_OK;
}

static size_t entry_offset(uint32_t slot) {
    return offsetof(slab_registry, arenas) + slot * sizeof(slab_entry);
}

slab_status slab_registry_set(uint32_t slot, const slab_entry *entry) {
    slab_status status = writable();
    if (status != SLAB_OK)
        return status;
    if (slab_region_write(&slab_registry_memory, entry_offset(slot), entry, sizeof *entry) < 0)
        return SLAB_OS;
    return SLAB_OK;
}

slab_status slab_registry_add(const slab_entry *entry, uint32_t *slot) {
    slab_status status = writable();
    if (status != SLAB_OK)
        return status;
    for (uint32_t i = 0; i < SLAB_MAX_ARENAS; i++)
        if (slab_registry_view()->arenas[i].uid == 0) {
            *slot = i;
            return slab_registry_set(i, entry);
        }
    return SLAB_FULL;
}

int slab_registry_seal(void) {
    return slab_region_seal(&slab_registry_memory, 1);
}

/* An id is an offset: nothing that was not published as a layout passes for one. */
const slab_layout *slab_layout_at(size_t id) {
    if (!slab_registry_memory.view || id < sizeof(slab_registry) || id % ALIGNMENT ||
        used < sizeof(slab_layout) || id > used - sizeof(slab_layout))
        return NULL;
    const slab_layout *layout = (const slab_layout *)(slab_registry_memory.view + id);
    uint64_t magic = LAYOUT_MAGIC ^ slab_registry_view()->secret ^ id;
    return layout->magic == magic ? layout : NULL;
}

size_t slab_layout_id(const slab_layout *layout) {
    return (size_t)((const unsigned char *)layout - slab_registry_memory.view);
}

slab_status slab_layout_publish(slab_layout *layout, size_t bytes, size_t *id) {
    const void *at;
    slab_status status = slab_registry_room(bytes, &at);
    if (status != SLAB_OK)
        return status;
    *id = slab_layout_id(at);
    layout->magic = LAYOUT_MAGIC ^ slab_registry_view()->secret ^ *id;
    return slab_registry_append(layout, bytes, &at);
}
