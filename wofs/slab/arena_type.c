/* The Python type of arenas. */
#include "python.h"

#include "arena.h"
#include "report.h"

#include <stddef.h>

typedef struct {
    PyObject_HEAD
    slab_arena arena;
} ArenaObject;

static ArenaObject *owners[SLAB_MAX_ARENAS];

slab_arena *slab_arena_of(uint32_t slot, uint64_t uid) {
    ArenaObject *owner = slot < SLAB_MAX_ARENAS ? owners[slot] : NULL;
    return owner && owner->arena.uid == uid ? &owner->arena : NULL;
}

PyObject *slab_owner_of(slab_arena *arena) {
    return (PyObject *)((char *)arena - offsetof(ArenaObject, arena));
}

static slab_arena *of(PyObject *self) {
    return &((ArenaObject *)self)->arena;
}

slab_arena *slab_arena_in(PyObject *owner) {
    return of(owner);
}

/* Arena(pages, backend, label) */
static PyObject *arena_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    Py_ssize_t pages;
    const char *backend, *label;
    if (kwargs && PyDict_GET_SIZE(kwargs))
        return PyErr_Format(PyExc_TypeError, "an arena takes no keywords");
    if (!PyArg_ParseTuple(args, "nss", &pages, &backend, &label))
        return NULL;
    ArenaObject *self = (ArenaObject *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    self->arena.region.fd = -1;
    slab_status status =
        slab_arena_open(&self->arena, pages > 0 ? (size_t)pages : 0, backend, label);
    if (status != SLAB_OK) {
        slab_raise(status);
        Py_DECREF(self);
        return NULL;
    }
    owners[self->arena.slot] = self;
    if (slab_report_install() < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static void disown(PyObject *self) {
    slab_arena *arena = of(self);
    if (owners[arena->slot] == (ArenaObject *)self)
        owners[arena->slot] = NULL;
    slab_arena_close(arena);
}

static void arena_dealloc(PyObject *self) {
    disown(self);
    Py_TYPE(self)->tp_free(self);
}

static int any_exports(const slab_arena *arena) {
    for (uint32_t c = 0; c < arena->ncaches; c++) {
        const slab_cache *cache = &arena->caches[c];
        for (size_t r = 0; r < cache->nruns; r++)
            for (size_t s = 0; s < cache->runs[r]->slots; s++)
                if (cache->runs[r]->exports[s])
                    return 1;
    }
    return 0;
}

static PyObject *arena_close(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    if (of(self)->region.base && any_exports(of(self)))
        return slab_raise(SLAB_BUSY);
    disown(self);
    Py_RETURN_NONE;
}

/* cache(layout) -> number of the cache */
static PyObject *arena_cache(PyObject *self, PyObject *args) {
    Py_ssize_t id;
    uint32_t cache;
    if (!PyArg_ParseTuple(args, "n", &id))
        return NULL;
    const slab_layout *layout = slab_layout_at((size_t)id);
    if (!layout)
        return PyErr_Format(PyExc_ValueError, "no layout has the id %zd", id);
    slab_status status = slab_arena_cache(of(self), layout, &cache);
    return status == SLAB_OK ? PyLong_FromUnsignedLong(cache) : slab_raise(status);
}

static const slab_cache *cache_number(PyObject *self, unsigned int number) {
    const slab_arena *arena = of(self);
    if (number < arena->ncaches)
        return &arena->caches[number];
    slab_raise(arena->region.base ? SLAB_FULL : SLAB_STALE);
    return NULL;
}

/* filler(cache, layout, type) -> callable that creates an object of values by name */
static PyObject *arena_filler(PyObject *self, PyObject *args) {
    unsigned int number;
    Py_ssize_t id;
    PyTypeObject *type;
    if (!PyArg_ParseTuple(args, "O&nO!", slab_u32, &number, &id, &PyType_Type, &type))
        return NULL;
    const slab_cache *cache = cache_number(self, number);
    if (!cache)
        return NULL;
    if (cache->layout != slab_layout_at((size_t)id) || !slab_is_type_of(type, (size_t)id))
        return PyErr_Format(PyExc_TypeError, "cache, layout and type do not belong together");
    return slab_filler_new(self, number, cache->layout, type);
}

/* What objects are made of: the arguments (cache, name, data). */
typedef struct {
    unsigned int number;
    const slab_cache *cache;
    const char *name, *data;
    size_t size; /* bytes of data */
} contents;

static int parse_contents(PyObject *self, PyObject *args, contents *given) {
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "O&sy#", slab_u32, &given->number, &given->name, &given->data,
                          &size))
        return 0;
    given->size = (size_t)size;
    given->cache = cache_number(self, given->number);
    return given->cache != NULL;
}

/* init_once(cache, name, data) -> (offset, serial) */
static PyObject *arena_init_once(PyObject *self, PyObject *args) {
    contents given;
    slab_place place;
    if (!parse_contents(self, args, &given))
        return NULL;
    if (given.size != given.cache->layout->size)
        return PyErr_Format(PyExc_ValueError, "%zu bytes for an object of %u", given.size,
                            given.cache->layout->size);
    slab_status status = slab_arena_init(of(self), given.number, given.name, given.data, &place);
    if (status != SLAB_OK)
        return slab_raise(status);
    return Py_BuildValue("(nK)", (Py_ssize_t)place.offset, (unsigned long long)place.serial);
}

/* init_batch(cache, prefix, data) -> (first offset, first serial, slots of a run, bytes from a run
 * to the next, from a slot to the next) */
static PyObject *arena_init_batch(PyObject *self, PyObject *args) {
    contents given;
    slab_place place;
    if (!parse_contents(self, args, &given))
        return NULL;
    size_t each = given.cache->layout->size;
    if (given.size % each)
        return PyErr_Format(PyExc_ValueError, "%zu bytes for objects of %zu", given.size, each);
    slab_status status = slab_arena_batch(of(self), given.number, given.name, given.size / each,
                                          given.data, &place);
    if (status != SLAB_OK)
        return slab_raise(status);
    return Py_BuildValue("(nKInI)", (Py_ssize_t)place.offset, (unsigned long long)place.serial,
                         given.cache->per_run, (Py_ssize_t)slab_run_bytes(given.cache),
                         given.cache->stride);
}

/* handle(type, layout, offset, serial): of an object that is there, of that layout. */
static PyObject *arena_handle(PyObject *self, PyObject *args) {
    const slab_arena *arena = of(self);
    PyTypeObject *type;
    Py_ssize_t layout, offset;
    unsigned long long serial;
    if (!PyArg_ParseTuple(args, "O!nnO&", &PyType_Type, &type, &layout, &offset, slab_u64,
                          &serial))
        return NULL;
    if (!arena->region.base)
        return slab_raise(SLAB_STALE);
    if (!slab_is_type_of(type, (size_t)layout))
        return PyErr_Format(PyExc_TypeError, "%s is not the type of that layout", type->tp_name);
    size_t first = (size_t)arena->first * SLAB_UNIT, end = (size_t)arena->end * SLAB_UNIT;
    if (offset < 0 || (size_t)offset < first || (size_t)offset % 8 ||
        (size_t)offset > end - sizeof(slab_header))
        return slab_raise(SLAB_STALE);
    slab_place place = {(size_t)offset, serial};
    PyObject *handle = slab_handle_new(type, arena, place);
    const slab_layout *found;
    if (!handle || !slab_handle_object(handle, &found) || found != slab_layout_at((size_t)layout)) {
        Py_XDECREF(handle);
        return PyErr_Occurred() ? NULL : slab_raise(SLAB_STALE);
    }
    return handle;
}

/* free(cache, handle) */
static PyObject *arena_free(PyObject *self, PyObject *args) {
    unsigned int number;
    PyObject *object;
    if (!PyArg_ParseTuple(args, "O&O", slab_u32, &number, &object))
        return NULL;
    if (!slab_is_handle(object))
        return PyErr_Format(PyExc_TypeError, "not a handle of the slab");
    const slab_handle *handle = (const slab_handle *)object;
    const unsigned char *at = slab_handle_object(object, NULL);
    if (!at)
        return NULL;
    slab_arena *arena = slab_arena_of(handle->arena, handle->uid);
    if (arena != of(self))
        return PyErr_Format(PyExc_ValueError, "the object lies in another arena");
    if (((const slab_header *)at - 1)->cache != number)
        return PyErr_Format(PyExc_ValueError, "the object belongs to another cache");
    slab_place place = {handle->offset, handle->serial};
    slab_status status = slab_arena_free(arena, place);
    if (status != SLAB_OK)
        return slab_raise(status);
    Py_RETURN_NONE;
}

/* finish(process_lifetime) */
static PyObject *arena_finish(PyObject *self, PyObject *args) {
    int process_lifetime;
    if (!PyArg_ParseTuple(args, "p", &process_lifetime))
        return NULL;
    slab_status status = slab_arena_finish(of(self), process_lifetime);
    if (status != SLAB_OK)
        return slab_raise(status);
    if (slab_report_install() < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    Py_RETURN_NONE;
}

/* ---- looking */
static PyObject *site(const slab_arena *arena, size_t offset) {
    const slab_entry *entry = &slab_registry_view()->arenas[arena->slot];
    slab_site at;
    /* A forked child may see that its parent has closed the arena and made another there. */
    if (entry->uid != arena->uid)
        return slab_raise(SLAB_STALE);
    slab_site_at(entry, offset, &at);
    return Py_BuildValue("(ssszKnnn)", at.what, at.name, at.cache,
                         at.field ? at.field->name : NULL,
                         (unsigned long long)(uintptr_t)(arena->region.view + offset),
                         (Py_ssize_t)at.page, (Py_ssize_t)at.slot, (Py_ssize_t)at.byte);
}

/* locate(address) -> (what, name, cache, field or None, address, page, slot, byte) or None */
static PyObject *arena_locate(PyObject *self, PyObject *args) {
    const slab_arena *arena = of(self);
    unsigned long long address;
    if (!PyArg_ParseTuple(args, "O&", slab_u64, &address))
        return NULL;
    if (!arena->region.base)
        return slab_raise(SLAB_STALE);
    uint64_t view = (uintptr_t)arena->region.view;
    if (address < view || address - view >= arena->region.size)
        Py_RETURN_NONE;
    return site(arena, (size_t)(address - view));
}

typedef struct {
    const slab_arena *arena;
    PyObject *list;
} finding;

static void add_finding(void *context, size_t offset) {
    finding *found = context;
    if (PyErr_Occurred())
        return;
    PyObject *item = site(found->arena, offset + sizeof(slab_header));
    if (item)
        PyList_Append(found->list, item);
    Py_XDECREF(item);
}

/* verify() -> sites of the objects whose bytes are not those that were published */
static PyObject *arena_verify(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    finding found = {of(self), PyList_New(0)};
    if (!found.list)
        return NULL;
    if (!found.arena->region.base) {
        Py_DECREF(found.list);
        return slab_raise(SLAB_STALE);
    }
    slab_arena_verify(of(self), add_finding, &found);
    if (PyErr_Occurred())
        Py_CLEAR(found.list);
    return found.list;
}

/* enforce(): verify; a changed object ends the process. */
static PyObject *arena_enforce(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    if (!of(self)->region.base)
        return slab_raise(SLAB_STALE);
    slab_report_enforce(of(self));
    Py_RETURN_NONE;
}

/* How many pages hold units that belong to a cache; `id`: to that one, SLAB_MAX_CACHES: to any. */
static unsigned int pages_of(const slab_arena *arena, uint32_t id) {
    const slab_entry *entry = &slab_registry_view()->arenas[arena->slot];
    uint32_t a_page = (uint32_t)(slab_page() / SLAB_UNIT), last = SLAB_NO_INDEX, owner;
    unsigned int pages = 0;
    for (uint32_t unit = arena->first; entry->uid == arena->uid && unit < arena->next; unit++) {
        if (unit / a_page == last || !entry->view[unit])
            continue;
        owner = (entry->view[unit] & (SLAB_RUN_START - 1)) - 1;
        if (id == SLAB_MAX_CACHES || owner == id) {
            last = unit / a_page;
            pages++;
        }
    }
    return pages;
}

/* state() -> (backend, sealed, locked, bytes of control data, pages that hold objects, the range
 * of the memory that is for objects) */
static PyObject *arena_state(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    const slab_arena *arena = of(self);
    if (!arena->region.base)
        return slab_raise(SLAB_STALE);
    size_t first = (size_t)arena->first * SLAB_UNIT, end = (size_t)arena->end * SLAB_UNIT;
    return Py_BuildValue("(siinInn)", arena->region.backend->name, arena->region.sealed,
                         arena->region.locked, (Py_ssize_t)(first + arena->far),
                         pages_of(arena, SLAB_MAX_CACHES), (Py_ssize_t)first, (Py_ssize_t)end);
}

/* One run: (offset, bytes, cache, a byte a slot: 1 where an object is). */
static PyObject *run_item(const slab_run *run, uint32_t number) {
    return Py_BuildValue("(nnIy#)", (Py_ssize_t)run->start * SLAB_UNIT,
                         (Py_ssize_t)run->units * SLAB_UNIT, number, (const char *)run->taken,
                         (Py_ssize_t)run->slots);
}

/* page_map() -> (address of the view, [(offset, bytes, cache, slots)]) */
static PyObject *arena_page_map(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    const slab_arena *arena = of(self);
    if (!arena->region.base)
        return slab_raise(SLAB_STALE);
    PyObject *list = PyList_New(0);
    for (uint32_t c = 0; list && c < arena->ncaches; c++)
        for (size_t r = 0; r < arena->caches[c].nruns; r++) {
            PyObject *item = run_item(arena->caches[c].runs[r], c);
            int failed = !item || PyList_Append(list, item) < 0;
            Py_XDECREF(item);
            if (failed) {
                Py_DECREF(list);
                return NULL;
            }
        }
    if (!list)
        return NULL;
    return Py_BuildValue("(KN)", (unsigned long long)(uintptr_t)arena->region.view, list);
}

/* cache_state(cache) -> (objects, freed, pages with runs of it, bytes of its runs, stride) */
static PyObject *arena_cache_state(PyObject *self, PyObject *args) {
    unsigned int number;
    if (!PyArg_ParseTuple(args, "O&", slab_u32, &number))
        return NULL;
    const slab_cache *cache = cache_number(self, number);
    if (!cache)
        return NULL;
    Py_ssize_t bytes = 0;
    for (size_t r = 0; r < cache->nruns; r++)
        bytes += (Py_ssize_t)cache->runs[r]->units * SLAB_UNIT;
    return Py_BuildValue("(nnInI)", (Py_ssize_t)cache->objects, (Py_ssize_t)cache->freed,
                         pages_of(of(self), number), bytes, cache->stride);
}

static PyMethodDef arena_methods[] = {
    {"cache", arena_cache, METH_VARARGS, "Make a cache of a layout; return its number."},
    {"filler", arena_filler, METH_VARARGS, "Make a callable that publishes one object."},
    {"init_once", arena_init_once, METH_VARARGS, "Publish one object."},
    {"init_batch", arena_init_batch, METH_VARARGS, "Publish objects in a row."},
    {"handle", arena_handle, METH_VARARGS, "Make a handle of a published object."},
    {"free", arena_free, METH_VARARGS, "Poison an object and give its slot back."},
    {"finish", arena_finish, METH_VARARGS, "Refuse all further writes, for ever."},
    {"close", arena_close, METH_NOARGS, "Unmap the view; handles are stale afterwards."},
    {"locate", arena_locate, METH_VARARGS, "Say what lies at an address."},
    {"verify", arena_verify, METH_NOARGS, "Return the sites of changed objects."},
    {"enforce", arena_enforce, METH_NOARGS, "End the process if an object was changed."},
    {"state", arena_state, METH_NOARGS, "Return what the arena is and holds."},
    {"page_map", arena_page_map, METH_NOARGS, "Return the runs of objects and their slots."},
    {"cache_state", arena_cache_state, METH_VARARGS, "Return what a cache holds."},
    {NULL, NULL, 0, NULL},
};

PyTypeObject slab_arena_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "wofs.slab._slab.Arena",
    .tp_basicsize = sizeof(ArenaObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .tp_doc = "Write-once memory between guards; the Python face is wofs.slab.Arena.",
    .tp_new = arena_new,
    .tp_dealloc = arena_dealloc,
    .tp_methods = arena_methods,
};
