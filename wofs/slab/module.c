/* The extension module: arenas and read-only handles of their objects. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "slab.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    PyObject_HEAD
    slab_arena arena;
} ArenaObject;

/* A handle has no setter, no dict, and can be made by an arena only. */
typedef struct {
    PyObject_HEAD
    ArenaObject *arena;
    size_t offset;
    const slab_layout *layout;
} HandleObject;

static PyTypeObject ArenaType;

/* ---- reading fields */

static PyObject *stale(void) {
    PyErr_SetString(PyExc_ReferenceError, "the arena of this handle is closed");
    return NULL;
}

static PyObject *read_item(const unsigned char *at, char code) {
    switch (code) {
#define CASE(letter, type, make)              \
    case letter: {                            \
        type value;                           \
        memcpy(&value, at, sizeof value);     \
        return make(value);                   \
    }
        CASE('B', uint8_t, PyLong_FromUnsignedLong)
        CASE('H', uint16_t, PyLong_FromUnsignedLong)
        CASE('I', uint32_t, PyLong_FromUnsignedLong)
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

static size_t item_size(char code) {
    switch (code) {
    case 'H': case 'h': return 2;
    case 'I': case 'i': return 4;
    case 'Q': case 'q': return 8;
    default: return 1;
    }
}

/* Read the protected bytes anew: nothing of an object is kept anywhere else. */
static PyObject *handle_get(PyObject *self, void *closure) {
    const HandleObject *handle = (HandleObject *)self;
    const slab_field *field = closure;
    const unsigned char *view = handle->arena->arena.view;
    if (!view)
        return stale();
    const unsigned char *at = view + handle->offset + field->offset;
    if (field->code == 's')
        return PyBytes_FromStringAndSize((const char *)at, (Py_ssize_t)field->count);
    if (field->count == 1)
        return read_item(at, field->code);
    PyObject *items = PyTuple_New((Py_ssize_t)field->count);
    for (uint32_t i = 0; items && i < field->count; i++) {
        PyObject *item = read_item(at + i * item_size(field->code), field->code);
        if (!item) {
            Py_CLEAR(items);
            break;
        }
        PyTuple_SET_ITEM(items, (Py_ssize_t)i, item);
    }
    return items;
}

static void handle_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    Py_DECREF(((HandleObject *)self)->arena);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *handle_reduce(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    PyErr_Format(PyExc_TypeError, "a %s in the slab has one copy only", Py_TYPE(self)->tp_name);
    return NULL;
}

static PyMethodDef handle_methods[] = {
    {"__reduce__", handle_reduce, METH_NOARGS, "Refuse to be copied."},
    {NULL, NULL, 0, NULL},
};

/* ---- types of handles */

static int fill_field(slab_field *field, PyObject *item) {
    const char *name, *code;
    unsigned int offset, count;
    if (!PyArg_ParseTuple(item, "ssII", &name, &code, &offset, &count))
        return -1;
    if (strlen(name) >= SLAB_NAME_MAX || strlen(code) != 1 || !strchr("BHIQbhiqs", code[0])) {
        PyErr_Format(PyExc_ValueError, "bad field %s", name);
        return -1;
    }
    strcpy(field->name, name);
    field->code = code[0];
    field->offset = offset;
    field->count = count;
    return 0;
}

static slab_layout *make_layout(const char *name, unsigned int size, PyObject *fields) {
    Py_ssize_t n = PyTuple_GET_SIZE(fields);
    slab_layout *layout = calloc(1, sizeof *layout + (size_t)n * sizeof(slab_field));
    if (!layout) {
        PyErr_NoMemory();
        return NULL;
    }
    strncpy(layout->name, name, SLAB_NAME_MAX - 1);
    layout->size = size;
    layout->nfields = (uint32_t)n;
    for (Py_ssize_t i = 0; i < n; i++) {
        slab_field *field = &layout->fields[i];
        if (fill_field(field, PyTuple_GET_ITEM(fields, i)) < 0)
            break;
        size_t bytes = item_size(field->code) * field->count;
        if (field->offset > size || bytes > size - field->offset)
            PyErr_Format(PyExc_ValueError, "%s leaves the record", field->name);
    }
    if (PyErr_Occurred()) {
        free(layout);
        return NULL;
    }
    return layout;
}

/* layout(name, size, fields) -> capsule; kept for ever, since reports refer to it. */
static PyObject *slab_make_layout(PyObject *Py_UNUSED(module), PyObject *args) {
    const char *name;
    unsigned int size;
    PyObject *fields;
    if (!PyArg_ParseTuple(args, "sIO!", &name, &size, &PyTuple_Type, &fields))
        return NULL;
    slab_layout *layout = make_layout(name, size, fields);
    return layout ? PyCapsule_New(layout, "wofs.layout", NULL) : NULL;
}

/* handle_type(capsule, name) -> a type with one read-only attribute per field. */
static PyObject *slab_handle_type(PyObject *Py_UNUSED(module), PyObject *args) {
    PyObject *capsule;
    const char *name;
    if (!PyArg_ParseTuple(args, "Os", &capsule, &name))
        return NULL;
    slab_layout *layout = PyCapsule_GetPointer(capsule, "wofs.layout");
    if (!layout)
        return NULL;
    PyGetSetDef *getset = calloc(layout->nfields + 1, sizeof *getset);
    if (!getset)
        return PyErr_NoMemory();
    for (uint32_t i = 0; i < layout->nfields; i++) {
        getset[i].name = layout->fields[i].name;
        getset[i].get = handle_get;
        getset[i].closure = &layout->fields[i];
    }
    PyType_Slot slots[] = {
        {Py_tp_dealloc, handle_dealloc},
        {Py_tp_getset, getset},
        {Py_tp_methods, handle_methods},
        {0, NULL},
    };
    PyType_Spec spec = {
        .name = name,
        .basicsize = sizeof(HandleObject),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
        .slots = slots,
    };
    return PyType_FromSpec(&spec);
}

/* ---- arenas */

static PyObject *arena_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kwargs)) {
    Py_ssize_t bytes;
    if (!PyArg_ParseTuple(args, "n", &bytes))
        return NULL;
    if (bytes <= 0) {
        PyErr_SetString(PyExc_ValueError, "an arena needs at least one byte");
        return NULL;
    }
    ArenaObject *self = (ArenaObject *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    self->arena.fd = -1;
    if (slab_arena_open(&self->arena, (size_t)bytes) < 0 || slab_report_add(&self->arena) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static void arena_dealloc(PyObject *self) {
    slab_arena *arena = &((ArenaObject *)self)->arena;
    /* A locked view stays for the life of the process, and is then still reported on. */
    if (!arena->locked) {
        slab_report_remove(arena);
        slab_arena_close(arena);
        free(arena->sites);
        Py_TYPE(self)->tp_free(self);
    }
}

static int add_site(slab_arena *arena, const slab_site *site) {
    slab_site *sites = realloc(arena->sites, (arena->nsites + 1) * sizeof *sites);
    if (!sites)
        return -1;
    arena->sites = sites;
    arena->sites[arena->nsites++] = *site;
    return 0;
}

/* publish(layout, prefix, indexed, offset, stride, objects, data): write once, never again. */
static PyObject *arena_publish(PyObject *self, PyObject *args) {
    slab_arena *arena = &((ArenaObject *)self)->arena;
    PyObject *capsule;
    const char *prefix;
    Py_ssize_t offset, stride, objects;
    Py_buffer data;
    slab_site site = {.indexed = 0};
    if (!PyArg_ParseTuple(args, "Ospnnny*", &capsule, &prefix, &site.indexed, &offset, &stride,
                          &objects, &data))
        return NULL;
    site.layout = PyCapsule_GetPointer(capsule, "wofs.layout");
    strncpy(site.prefix, prefix, SLAB_NAME_MAX - 1);
    site.offset = (size_t)offset;
    site.stride = (size_t)stride;
    site.objects = (size_t)objects;
    int bad = !site.layout || offset < 0 || objects < 0 || stride < (Py_ssize_t)site.layout->size ||
              data.len != stride * objects;
    if (bad && !PyErr_Occurred())
        PyErr_SetString(PyExc_ValueError, "the data does not fit the layout");
    if (!bad && slab_arena_append(arena, site.offset, data.buf, (size_t)data.len) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        bad = 1;
    }
    if (!bad && memcmp(arena->view + offset, data.buf, (size_t)data.len) != 0) {
        PyErr_SetString(PyExc_SystemError, "the view does not show what was published");
        bad = 1;
    }
    PyBuffer_Release(&data);
    if (!bad && add_site(arena, &site) < 0)
        return PyErr_NoMemory();
    if (bad)
        return NULL;
    Py_RETURN_NONE;
}

/* handle(type, layout, offset): a handle of a published object. */
static PyObject *arena_handle(PyObject *self, PyObject *args) {
    slab_arena *arena = &((ArenaObject *)self)->arena;
    PyTypeObject *type;
    PyObject *capsule;
    Py_ssize_t offset;
    if (!PyArg_ParseTuple(args, "O!On", &PyType_Type, &type, &capsule, &offset))
        return NULL;
    const slab_layout *layout = PyCapsule_GetPointer(capsule, "wofs.layout");
    if (!layout)
        return NULL;
    if (type->tp_dealloc != handle_dealloc || offset < 0 ||
        (size_t)offset + layout->size > arena->used) {
        PyErr_SetString(PyExc_ValueError, "no published object lies there");
        return NULL;
    }
    HandleObject *handle = PyObject_New(HandleObject, type);
    if (!handle)
        return NULL;
    handle->arena = (ArenaObject *)Py_NewRef(self);
    handle->offset = (size_t)offset;
    handle->layout = layout;
    return (PyObject *)handle;
}

static PyObject *arena_seal(PyObject *self, PyObject *args) {
    int process_lifetime;
    if (!PyArg_ParseTuple(args, "p", &process_lifetime))
        return NULL;
    slab_arena *arena = &((ArenaObject *)self)->arena;
    if (slab_arena_seal(arena, process_lifetime) < 0 || slab_report_install() < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    Py_RETURN_NONE;
}

static PyObject *arena_close(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    slab_arena *arena = &((ArenaObject *)self)->arena;
    if (!arena->locked)
        slab_report_remove(arena);
    slab_arena_close(arena);
    Py_RETURN_NONE;
}

static PyObject *arena_state(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    const slab_arena *arena = &((ArenaObject *)self)->arena;
    return Py_BuildValue("(nnii)", (Py_ssize_t)arena->size, (Py_ssize_t)arena->used,
                         arena->sealed, arena->locked);
}

static PyMethodDef arena_methods[] = {
    {"publish", arena_publish, METH_VARARGS, "Publish objects of one layout, once."},
    {"handle", arena_handle, METH_VARARGS, "Make a handle of a published object."},
    {"seal", arena_seal, METH_VARARGS, "Refuse all further writes, for ever."},
    {"close", arena_close, METH_NOARGS, "Unmap the view; handles are stale afterwards."},
    {"state", arena_state, METH_NOARGS, "Return (bytes, bytes used, sealed, locked)."},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject ArenaType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "wofs.slab._slab.Arena",
    .tp_basicsize = sizeof(ArenaObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .tp_doc = "Write-once memory: a sealed memfd seen through a read-only view.",
    .tp_new = arena_new,
    .tp_dealloc = arena_dealloc,
    .tp_methods = arena_methods,
};

/* ---- attack tools and the module */

static PyObject *slab_address(PyObject *Py_UNUSED(module), PyObject *args) {
    PyObject *object;
    const char *name;
    if (!PyArg_ParseTuple(args, "Os", &object, &name))
        return NULL;
    if (Py_TYPE(object)->tp_dealloc != handle_dealloc) {
        PyErr_SetString(PyExc_TypeError, "not a handle of the slab");
        return NULL;
    }
    const HandleObject *handle = (HandleObject *)object;
    if (!handle->arena->arena.view)
        return stale();
    for (uint32_t i = 0; i < handle->layout->nfields; i++) {
        const slab_field *field = &handle->layout->fields[i];
        if (strcmp(field->name, name) == 0)
            return PyLong_FromVoidPtr(handle->arena->arena.view + handle->offset + field->offset);
    }
    PyErr_Format(PyExc_AttributeError, "no field %s", name);
    return NULL;
}

static PyObject *slab_stray_store(PyObject *Py_UNUSED(module), PyObject *args) {
    unsigned long long address;
    unsigned char value;
    if (!PyArg_ParseTuple(args, "KB", &address, &value))
        return NULL;
    *(volatile unsigned char *)(uintptr_t)address = value;
    Py_RETURN_NONE;
}

static PyObject *slab_set_report(PyObject *Py_UNUSED(module), PyObject *args) {
    PyObject *path;
    if (!PyArg_ParseTuple(args, "O&", PyUnicode_FSConverter, &path))
        return NULL;
    int failed = slab_report_to(PyBytes_AS_STRING(path)) < 0;
    Py_DECREF(path);
    if (failed)
        return PyErr_SetFromErrno(PyExc_OSError);
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"layout", slab_make_layout, METH_VARARGS, "Describe a record type."},
    {"handle_type", slab_handle_type, METH_VARARGS, "Make the handle type of a layout."},
    {"address", slab_address, METH_VARARGS, "Return the address of a handle's field."},
    {"stray_store", slab_stray_store, METH_VARARGS, "Store a byte at an address: an attack."},
    {"report_to", slab_set_report, METH_VARARGS, "Append crash reports to a file too."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, .m_name = "_slab", .m_size = -1, .m_methods = functions};

PyMODINIT_FUNC PyInit__slab(void) {
    if (PyType_Ready(&ArenaType) < 0)
        return NULL;
    PyObject *made = PyModule_Create(&module);
    if (!made || PyModule_AddObjectRef(made, "Arena", (PyObject *)&ArenaType) < 0) {
        Py_XDECREF(made);
        return NULL;
    }
    return made;
}
