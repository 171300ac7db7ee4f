/* Say what lies at an address of an arena, from protected memory alone and signal-safe. */
#include "slab.h"

#include <string.h>

static void append(slab_site *site, const char *text) {
    size_t at = strlen(site->name);
    while (*text && at + 1 < sizeof site->name)
        site->name[at++] = *text++;
    site->name[at] = 0;
}

static void append_number(slab_site *site, uint32_t value) {
    char digits[12];
    size_t at = sizeof digits - 1;
    digits[at] = 0;
    do
        digits[--at] = (char)('0' + value % 10);
    while (value /= 10);
    append(site, digits + at);
}

static void name_of(const slab_entry *entry, const slab_header *head, slab_site *site) {
    if (head->name < entry->size - SLAB_NAME_MAX)
        append(site, (const char *)entry->view + head->name);
    if (head->index != SLAB_NO_INDEX) {
        append(site, "[");
        append_number(site, head->index);
        append(site, "]");
    }
}

static int is_object(const slab_entry *entry, size_t offset, uint32_t cache) {
    const slab_header *head = (const slab_header *)(entry->view + offset);
    return head->cache == cache &&
           head->cookie == slab_cookie(slab_registry_view()->secret, entry->uid, offset);
}

/* The cache that a page belongs to, NULL for none. */
static const slab_cache_entry *cache_of(const slab_entry *entry, size_t page, uint32_t *id) {
    if (page < entry->control_pages || page >= entry->pages)
        return NULL;
    uint16_t owner = ((const uint16_t *)entry->view)[page];
    if (owner == 0 || owner > SLAB_MAX_CACHES)
        return NULL;
    *id = owner - 1u;
    return slab_entry_caches(entry) + *id;
}

static const slab_field *field_at(const slab_layout *layout, size_t byte) {
    for (uint32_t i = 0; i < layout->nfields; i++) {
        const slab_field *field = &layout->fields[i];
        if (byte >= field->offset && byte < field->offset + field->item * field->count)
            return field;
    }
    return NULL;
}

/* Name the nearest object below an offset, for what lies in none. */
static void nearest(const slab_entry *entry, size_t offset, slab_site *site) {
    size_t page_bytes = slab_page(), page = offset / page_bytes;
    for (size_t from = offset % page_bytes; page >= entry->control_pages; page--) {
        uint32_t id;
        const slab_cache_entry *cache = cache_of(entry, page, &id);
        size_t slots = cache ? from / cache->stride + 1 : 0;
        if (cache && slots > cache->per_page)
            slots = cache->per_page;
        while (slots--) {
            size_t at = page * page_bytes + slots * cache->stride;
            if (is_object(entry, at, id)) {
                name_of(entry, (const slab_header *)(entry->view + at), site);
                return;
            }
        }
        from = page_bytes - 1;
    }
}

static void in_object(const slab_entry *entry, const slab_layout *layout, size_t start,
                      size_t offset, slab_site *site) {
    name_of(entry, (const slab_header *)(entry->view + start), site);
    site->byte = offset - start - sizeof(slab_header);
    if (offset - start < sizeof(slab_header)) {
        site->what = "header";
        return;
    }
    site->field = field_at(layout, site->byte);
    site->what = site->field ? "object" : "padding";
}

void slab_site_at(const slab_entry *entry, size_t offset, slab_site *site) {
    size_t page_bytes = slab_page();
    uint32_t id;
    memset(site, 0, sizeof *site);
    site->page = offset / page_bytes;
    site->what = "control area";
    if (site->page < entry->control_pages)
        return;
    const slab_cache_entry *cache = cache_of(entry, site->page, &id);
    const slab_layout *layout = cache ? slab_layout_at(cache->layout) : NULL;
    site->what = "unused page";
    if (layout) {
        memcpy(site->cache, layout->name, sizeof site->cache);
        site->slot = offset % page_bytes / cache->stride;
        size_t start = site->page * page_bytes + site->slot * cache->stride;
        site->what = "end of a page";
        if (site->slot < cache->per_page && is_object(entry, start, id)) {
            in_object(entry, layout, start, offset, site);
            return;
        }
        if (site->slot < cache->per_page)
            site->what = "free object";
    }
    nearest(entry, offset, site);
}
