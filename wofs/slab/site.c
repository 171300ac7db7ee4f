/* Say what lies at an address of an arena, from protected memory alone and signal-safe. */
#include "batch.h"

#include <string.h>

static void append_letter(slab_site *site, char letter) {
    size_t at = strlen(site->name);
    if (at + 1 < sizeof site->name) {
        site->name[at] = letter;
        site->name[at + 1] = 0;
    }
}

static void append(slab_site *site, const char *text) {
    while (*text)
        append_letter(site, *text++);
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
    const char *text = slab_entry_name(entry, head->name);
    for (size_t i = 0; text && i < SLAB_NAME_MAX && text[i]; i++)
        append_letter(site, text[i]);
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

/* The cache that a unit belongs to and where its run begins, NULL for none. */
static const slab_cache_entry *cache_of(const slab_entry *entry, size_t unit, uint32_t *id,
                                        size_t *start) {
    uint32_t first = slab_entry_run(entry, unit, id);
    if (first == SLAB_NO_INDEX)
        return NULL;
    const slab_cache_entry *cache = slab_entry_caches(entry) + *id;
    *start = (size_t)first * SLAB_UNIT;
    return cache->stride ? cache : NULL;
}

/* The end of the run that a unit belongs to, in bytes. */
static size_t end_of(const slab_entry *entry, size_t unit) {
    while (++unit < entry->end && entry->view[unit] && !(entry->view[unit] & SLAB_RUN_START))
        ;
    return unit * SLAB_UNIT;
}

static const slab_field *field_at(const slab_layout *layout, size_t byte) {
    for (uint32_t i = 0; i < layout->nfields; i++) {
        const slab_field *field = &layout->fields[i];
        if (byte >= field->offset && byte < field->end)
            return field;
    }
    return NULL;
}

/* Name the nearest object below an offset, for what lies in none. */
static void nearest(const slab_entry *entry, size_t offset, slab_site *site) {
    for (size_t unit = offset / SLAB_UNIT; unit >= entry->first; unit--) {
        size_t start;
        uint32_t id;
        const slab_cache_entry *cache = cache_of(entry, unit, &id, &start);
        if (!cache)
            continue;
        size_t last = offset < end_of(entry, unit) ? offset : end_of(entry, unit) - 1;
        for (size_t slot = (last - start) / cache->stride + 1; slot--;) {
            size_t at = start + slot * cache->stride;
            if (at + cache->stride <= end_of(entry, unit) && is_object(entry, at, id)) {
                name_of(entry, (const slab_header *)(entry->view + at), site);
                return;
            }
        }
        unit = start / SLAB_UNIT;
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
    size_t unit = offset / SLAB_UNIT, start;
    uint32_t id;
    if (entry->kinds) {
        slab_store_site(entry, offset, site);
        return;
    }
    memset(site, 0, sizeof *site);
    site->page = offset / slab_page();
    site->what = "control area";
    if (unit < entry->first || unit >= entry->end)
        return;
    const slab_cache_entry *cache = cache_of(entry, unit, &id, &start);
    const slab_layout *layout = cache ? slab_layout_at(cache->layout) : NULL;
    site->what = "unused space";
    if (layout) {
        memcpy(site->cache, layout->name, sizeof site->cache);
        site->slot = (offset - start) / cache->stride;
        size_t at = start + site->slot * cache->stride;
        int whole = at + cache->stride <= end_of(entry, unit);
        site->what = "end of a run";
        if (whole && is_object(entry, at, id)) {
            in_object(entry, layout, at, offset, site);
            return;
        }
        if (whole)
            site->what = "free object";
    }
    nearest(entry, offset, site);
}
