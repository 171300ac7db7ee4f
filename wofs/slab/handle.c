/* Handles: Python objects through which the fields of a published object are read.
 *
 * Every read goes to the protected bytes anew. A handle holds no pointer that a read follows:
 * a keyed tag over its numbers is checked first, then the arena's entry in the registry, then
 * the cookie and serial before the object. No setter, no dict, no way to make one by hand.
 */
#include "python.h"

#include <stddef.h>
#include <string.h>

static inline uint64_t cookie_of(const slab_handle *handle) {
    return slab_cookie(slab_registry_view()->secret, handle->uid, handle->offset);
}

/* Any one number changed changes what is mixed. The serial is multiplied, so that it and the
 * address do not cancel each other out. Does not wait for the cookie: the processor computes both
 * at once. */
static inline uint64_t tag_of(const slab_handle *handle) {
    uint64_t numbers = handle->serial * 0x9e3779b97f4a7c15ULL ^ handle->arena;
    uint64_t place = ~slab_registry_view()->secret ^ (handle->uid << 40 ^ handle->offset);
    return slab_mixed(place ^ numbers ^ (uint64_t)(uintptr_t)handle << 8);
}

static void handle_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    type->tp_free(self);
    Py_DECREF(type);
}

int slab_is_handle(PyObject *object) {
    return Py_TYPE(object)->tp_dealloc == handle_dealloc;
}

int slab_is_type_of(const PyTypeObject *type, size_t layout_id) {
    const slab_layout *layout = slab_layout_at(layout_id);
    return layout && type->tp_dealloc == handle_dealloc && type->tp_getset &&
           type->tp_getset[0].closure == layout->fields;
}

PyObject *slab_handle_new(PyTypeObject *type, const slab_arena *arena, slab_place place) {
    slab_handle *handle = PyObject_New(slab_handle, type);
    if (!handle)
        return NULL;
    handle->arena = arena->slot;
    handle->uid = arena->uid;
    handle->offset = place.offset;
    handle->serial = place.serial;
    handle->tag = tag_of(handle);
    return (PyObject *)handle;
}

/* The entry of a handle's arena, NULL if it is closed or the handle was tampered with. */
static inline const slab_entry *entry_of(const slab_handle *handle) {
    if (handle->tag != tag_of(handle))
        return NULL;
    const slab_entry *entry = &slab_registry_view()->arenas[handle->arena];
    return entry->uid == handle->uid ? entry : NULL;
}

static inline const slab_header *header_of(const slab_handle *handle) {
    uint64_t cookie = cookie_of(handle);
    const slab_entry *entry = entry_of(handle);
    if (!entry)
        return NULL;
    const slab_header *head = (const slab_header *)(entry->view + handle->offset);
    return head->cookie == cookie && head->serial == handle->serial ? head : NULL;
}

const unsigned char *slab_handle_object(PyObject *self, const slab_layout **layout) {
    const slab_handle *handle = (const slab_handle *)self;
    const slab_header *head = header_of(handle);
    if (!head) {
        slab_raise(SLAB_STALE);
        return NULL;
    }
    if (layout) {
        const slab_entry *entry = &slab_registry_view()->arenas[handle->arena];
        *layout = head->cache < SLAB_MAX_CACHES
                      ? slab_layout_at(slab_entry_caches(entry)[head->cache].layout)
                      : NULL;
    }
    return (const unsigned char *)(head + 1);
}

/* ---- fields */
/* PyLong_FromLong has the shorter way for what fits. */
static inline PyObject *from_u32(uint32_t value) {
    return value <= INT32_MAX ? PyLong_FromLong((long)value) : PyLong_FromUnsignedLong(value);
}

static inline PyObject *read_item(const unsigned char *at, char code) {
    switch (code) {
#define CASE(letter, type, make)              \
    case letter: {                            \
        type value;                           \
        memcpy(&value, at, sizeof value);     \
        return make(value);                   \
    }
        CASE('B', uint8_t, PyLong_FromLong)
        CASE('H', uint16_t, PyLong_FromLong)
        CASE('I', uint32_t, from_u32)
        CASE('Q', uint64_t, PyLong_FromUnsignedLongLong)
        CASE('b', int8_t, PyLong_FromLong)
        CASE('h', int16_t, PyLong_FromLong)
        CASE('i', int32_t, PyLong_FromLong)
        CASE('q', int64_t, PyLong_FromLongLong)
#undef CASE
    }
    PyErr_SetString(PyExc_SystemError, "unknown field code");
    return NULL;
}

static PyObject *read_items(const unsigned char *at, const slab_field *field) {
    if (field->code == 's')
        return PyBytes_FromStringAndSize((const char *)at, field->count);
    PyObject *items = PyTuple_New((Py_ssize_t)field->count);
    for (uint32_t i = 0; items && i < field->count; i++) {
        PyObject *item = read_item(at + i * field->item, field->code);
        if (!item) {
            Py_CLEAR(items);
            break;
        }
        PyTuple_SET_ITEM(items, (Py_ssize_t)i, item);
    }
    return items;
}

/* `field` lies in the registry, as protected as what it describes. */
static inline PyObject *read_field(PyObject *self, const slab_field *field) {
    const slab_header *head = header_of((const slab_handle *)self);
    if (!head)
        return slab_raise(SLAB_STALE);
    const unsigned char *at = (const unsigned char *)(head + 1) + field->offset;
    if (field->end > head->size)
        return slab_raise(SLAB_STALE);
    return field->is_one ? read_item(at, field->code) : read_items(at, field);
}

static PyObject *handle_get(PyObject *self, void *closure) {
    return read_field(self, closure);
}

/* ---- the attributes of a type, published like the fields: a table of their names by address, as
 * code names them, the first one last; then its size, then what Python's own look-up goes by */
typedef struct {
    PyObject *name; /* interned; NULL: nothing */
    const slab_field *field;
} named;

typedef struct {
    uint64_t mask; /* entries of the table less one */
    uint64_t unused;
    PyGetSetDef getset[];
} face;

static inline const named *named_at(const face *shown, const PyObject *name) {
    const named *last = (const named *)(const void *)shown - 1;
    uint64_t at = (uintptr_t)name >> 4 & shown->mask;
    const named *found = last - at;
    while (found->name != name && found->name) {
        at = (at + 1) & shown->mask;
        found = last - at;
    }
    return found;
}

static inline const named *name_of(const PyTypeObject *type, const PyObject *name) {
    const char *getset = (const char *)type->tp_getset;
    return named_at((const face *)(const void *)(getset - offsetof(face, getset)), name);
}

const slab_field *slab_field_called(const PyTypeObject *type, PyObject *name) {
    const named *found = name_of(type, name);
    if (found->name)
        return found->field;
    /* Not the name that code has, but it may say the same. */
    Py_ssize_t length;
    const char *text = PyUnicode_AsUTF8AndSize(name, &length);
    if (!text)
        PyErr_Clear(); /* half a surrogate pair: nobody's name */
    for (const PyGetSetDef *getset = type->tp_getset; text && getset->name; getset++)
        if (strlen(getset->name) == (size_t)length && strcmp(text, getset->name) == 0)
            return getset->closure;
    return NULL;
}

/* A field by its name without a way through the type's dictionary; everything else by that way. */
static PyObject *handle_getattro(PyObject *self, PyObject *name) {
    const named *found = name_of(Py_TYPE(self), name);
    return found->name ? read_field(self, found->field) : PyObject_GenericGetAttr(self, name);
}

/* ---- buffers: read-only, and counted, since an object in view is not to be freed; each keeps
 * its arena alive, which a handle does not */
static int handle_getbuffer(PyObject *self, Py_buffer *view, int flags) {
    const slab_handle *handle = (const slab_handle *)self;
    const unsigned char *object = slab_handle_object(self, NULL);
    slab_arena *arena = object ? slab_arena_of(handle->arena, handle->uid) : NULL;
    view->obj = NULL;
    if (!arena) {
        if (!PyErr_Occurred())
            slab_raise(SLAB_STALE);
        return -1;
    }
    Py_ssize_t size = ((const slab_header *)object - 1)->size;
    if (PyBuffer_FillInfo(view, self, (void *)(uintptr_t)object, size, 1, flags) < 0)
        return -1;
    slab_status status = slab_arena_export(arena, handle->offset, 1);
    if (status != SLAB_OK) {
        Py_CLEAR(view->obj);
        slab_raise(status);
        return -1;
    }
    Py_INCREF(slab_owner_of(arena));
    return 0;
}

static void handle_releasebuffer(PyObject *self, Py_buffer *Py_UNUSED(view)) {
    const slab_handle *handle = (const slab_handle *)self;
    const slab_entry *entry = entry_of(handle);
    slab_arena *arena = entry ? slab_arena_of(handle->arena, handle->uid) : NULL;
    if (arena) {
        slab_arena_export(arena, handle->offset, -1);
        Py_DECREF(slab_owner_of(arena));
    }
}

static PyObject *handle_reduce(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    return PyErr_Format(PyExc_TypeError, "a %s of the slab has one copy only",
                        Py_TYPE(self)->tp_name);
}

static PyMethodDef handle_methods[] = {
    {"__reduce__", handle_reduce, METH_NOARGS, "Refuse to be copied."},
    {NULL, NULL, 0, NULL},
};

/* ---- types */

/* Fill in the names and attributes of a layout's fields; the names' references are kept. */
static int fill_face(const slab_layout *layout, face *shown) {
    for (uint32_t i = 0; i < layout->nfields; i++) {
        const slab_field *field = &layout->fields[i];
        PyObject *name = PyUnicode_InternFromString(field->name);
        if (!name)
            return -1;
        named *entry = (named *)(uintptr_t)named_at(shown, name);
        if (!entry->name)
            *entry = (named){name, field};
        shown->getset[i].name = field->name;
        shown->getset[i].get = handle_get;
        shown->getset[i].closure = (void *)(uintptr_t)field;
    }
    return 0;
}

static PyGetSetDef *publish_getset(const slab_layout *layout) {
    const void *at = NULL;
    size_t entries = 4;
    while (entries < 2 * (size_t)layout->nfields)
        entries *= 2;
    size_t table = entries * sizeof(named);
    size_t bytes = table + sizeof(face) + (layout->nfields + 1) * sizeof(PyGetSetDef);
    char *made = PyMem_Calloc(1, bytes);
    if (!made) {
        PyErr_NoMemory();
        return NULL;
    }
    face *shown = (face *)(void *)(made + table);
    shown->mask = entries - 1;
    if (fill_face(layout, shown) == 0) {
        slab_status status = slab_registry_append(made, bytes, &at);
        if (status != SLAB_OK)
            slab_raise(status);
    }
    PyMem_Free(made);
    return at && !PyErr_Occurred()
               ? (PyGetSetDef *)(uintptr_t)((const char *)at + table + offsetof(face, getset))
               : NULL;
}

PyObject *slab_handle_type(size_t layout_id, const char *name) {
    PyGetSetDef *getset = publish_getset(slab_layout_at(layout_id));
    if (!getset)
        return NULL;
    PyType_Slot slots[] = {
        {Py_tp_dealloc, handle_dealloc},
        {Py_tp_getset, getset},
        {Py_tp_getattro, handle_getattro},
        {Py_tp_methods, handle_methods},
        {Py_bf_getbuffer, handle_getbuffer},
        {Py_bf_releasebuffer, handle_releasebuffer},
        {0, NULL},
    };
    PyType_Spec spec = {
        .name = name,
        .basicsize = sizeof(slab_handle),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
        .slots = slots,
    };
    return PyType_FromSpec(&spec);
}
