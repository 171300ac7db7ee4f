/* The Python types of stores and batches. */
#include "python.h"

#include "batch.h"
#include "report.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    PyObject_HEAD
    slab_store store;
} StoreObject;

typedef struct {
    PyObject_HEAD
    slab_batch batch;
    PyObject *owner; /* the store, which outlives its batches */
} BatchObject;

static slab_store *store_of(PyObject *self) {
    return &((StoreObject *)self)->store;
}

static slab_batch *batch_of(PyObject *self) {
    return &((BatchObject *)self)->batch;
}

/* ---- stores */
static int take_kinds(PyObject *names, slab_kinds *kinds) {
    memset(kinds, 0, sizeof *kinds);
    Py_ssize_t count = PyTuple_GET_SIZE(names);
    for (Py_ssize_t i = 0; i < count && count <= SLAB_MAX_KINDS; i++) {
        Py_ssize_t length;
        const char *name = PyUnicode_AsUTF8AndSize(PyTuple_GET_ITEM(names, i), &length);
        if (!name)
            return -1;
        if (length >= SLAB_NAME_MAX) {
            slab_raise(SLAB_LONG_NAME);
            return -1;
        }
        memcpy(kinds->names[kinds->count++], name, (size_t)length + 1);
    }
    if (kinds->count != (size_t)count || !count) {
        PyErr_Format(PyExc_ValueError, "a store has 1 to %d kinds", SLAB_MAX_KINDS);
        return -1;
    }
    return 0;
}

/* Store(slots, bytes of a slot, backend, label, names of kinds) */
static PyObject *store_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    unsigned int slots;
    Py_ssize_t slot_bytes;
    const char *backend, *label;
    PyObject *names;
    slab_kinds kinds;
    if (kwargs && PyDict_GET_SIZE(kwargs))
        return PyErr_Format(PyExc_TypeError, "a store takes no keywords");
    if (!PyArg_ParseTuple(args, "O&nssO!", slab_u32, &slots, &slot_bytes, &backend, &label,
                          &PyTuple_Type, &names) ||
        take_kinds(names, &kinds) < 0)
        return NULL;
    StoreObject *self = (StoreObject *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    slab_status status = slab_store_open(&self->store, slots, slot_bytes > 0 ? (size_t)slot_bytes : 0,
                                         backend, label, &kinds);
    if (status != SLAB_OK)
        slab_raise(status);
    else if (slab_report_install() < 0)
        PyErr_SetFromErrno(PyExc_OSError);
    if (PyErr_Occurred())
        Py_CLEAR(self);
    return (PyObject *)self;
}

static void store_dealloc(PyObject *self) {
    slab_store_close(store_of(self));
    Py_TYPE(self)->tp_free(self);
}

static PyObject *store_close(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    if (slab_store_in_use(store_of(self)))
        return slab_raise(SLAB_BUSY);
    slab_store_close(store_of(self));
    Py_RETURN_NONE;
}

/* ---- arguments: whole numbers as they are, so that nothing runs while they are taken */
static int take_number(PyObject *object, unsigned long long most, unsigned long long *to) {
    if (!PyLong_Check(object)) {
        PyErr_Format(PyExc_TypeError, "a whole number is needed, not %s", Py_TYPE(object)->tp_name);
        return -1;
    }
    *to = PyLong_AsUnsignedLongLong(object);
    if (*to == (unsigned long long)-1 && PyErr_Occurred())
        return -1;
    if (*to > most) {
        PyErr_SetString(PyExc_OverflowError, "a number is too large");
        return -1;
    }
    return 0;
}

static int take_kind(PyObject *object, uint32_t *kind) {
    unsigned long long value;
    if (take_number(object, UINT32_MAX, &value) < 0)
        return -1;
    *kind = (uint32_t)value;
    return 0;
}

static int are_so_many(Py_ssize_t given, Py_ssize_t needed) {
    if (given != needed)
        PyErr_Format(PyExc_TypeError, "%zd arguments are needed, not %zd", needed, given);
    return given == needed;
}

/* The object with that key at a place: NULL with an exception, or NULL without one: none. */
static const slab_kept *find(PyObject *self, PyObject *const *args, Py_ssize_t count,
                             PyObject **batch) {
    unsigned long long place, a, b;
    uint32_t kind;
    const slab_store *store = store_of(self);
    if (!are_so_many(count, 4) || take_number(args[0], UINT64_MAX, &place) < 0 ||
        take_kind(args[1], &kind) < 0 || take_number(args[2], UINT64_MAX, &a) < 0 ||
        take_number(args[3], UINT64_MAX, &b) < 0)
        return NULL;
    if (!store->region.base) {
        slab_raise(SLAB_STALE);
        return NULL;
    }
    const slab_kept *head = slab_store_find(store, place, kind, a, b);
    if (head && batch) {
        slab_batch *holder = store->slots[place / store->slot_bytes];
        *batch = (PyObject *)((char *)holder - offsetof(BatchObject, batch));
    }
    return head;
}

/* read(place, kind, a, b) -> bytes or None */
static PyObject *store_read(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    const slab_kept *head = find(self, args, count, NULL);
    if (head)
        return PyBytes_FromStringAndSize((const char *)(head + 1), head->size);
    if (PyErr_Occurred())
        return NULL;
    Py_RETURN_NONE;
}

/* view(place, kind, a, b) -> memoryview of the protected bytes, or None */
static PyObject *store_view(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    PyObject *batch;
    const slab_kept *head = find(self, args, count, &batch);
    if (!head) {
        if (PyErr_Occurred())
            return NULL;
        Py_RETURN_NONE;
    }
    const unsigned char *start = batch_of(batch)->region.view;
    Py_INCREF(batch); /* making the view may collect garbage, and the batch with it */
    PyObject *whole = PyMemoryView_FromObject(batch);
    Py_DECREF(batch);
    if (!whole)
        return NULL;
    Py_ssize_t at = (const unsigned char *)(head + 1) - start;
    PyObject *part = PySequence_GetSlice(whole, at, at + (Py_ssize_t)head->size);
    Py_DECREF(whole);
    return part;
}

/* Bytes of the object with the key (a, 0), or None. */
static PyObject *read_one(const slab_store *store, PyObject *place, uint32_t kind, PyObject *key) {
    unsigned long long at, a;
    if (place == Py_None)
        Py_RETURN_NONE;
    if (take_number(place, UINT64_MAX, &at) < 0 || take_number(key, UINT64_MAX, &a) < 0)
        return NULL;
    const slab_kept *head = slab_store_find(store, at, kind, a, 0);
    if (head)
        return PyBytes_FromStringAndSize((const char *)(head + 1), head->size);
    Py_RETURN_NONE;
}

/* read_many(places, kind, keys) -> list of bytes or None; a place may be None, b is 0 */
static PyObject *store_read_many(PyObject *self, PyObject *const *args, Py_ssize_t given) {
    uint32_t kind;
    const slab_store *store = store_of(self);
    if (!are_so_many(given, 3) || take_kind(args[1], &kind) < 0)
        return NULL;
    PyObject *places = args[0], *keys = args[2];
    if (!PyList_Check(places) || !PyList_Check(keys))
        return PyErr_Format(PyExc_TypeError, "places and keys are lists");
    Py_ssize_t count = PyList_GET_SIZE(places);
    PyObject *out = PyList_New(count); /* may collect garbage, which may do anything */
    if (out && (PyList_GET_SIZE(places) != count || PyList_GET_SIZE(keys) != count)) {
        Py_DECREF(out);
        return PyErr_Format(PyExc_ValueError, "as many places as keys");
    }
    if (out && !store->region.base) {
        Py_DECREF(out);
        return slab_raise(SLAB_STALE);
    }
    for (Py_ssize_t i = 0; out && i < count; i++) {
        PyObject *found =
            read_one(store, PyList_GET_ITEM(places, i), kind, PyList_GET_ITEM(keys, i));
        if (found)
            PyList_SET_ITEM(out, i, found);
        else
            Py_CLEAR(out);
    }
    return out;
}

/* batch(bytes) -> Batch with room for an object of that many */
static PyObject *store_batch(PyObject *self, PyObject *args) {
    Py_ssize_t bytes;
    if (!PyArg_ParseTuple(args, "n", &bytes))
        return NULL;
    if (bytes < 0)
        return PyErr_Format(PyExc_ValueError, "bytes are not fewer than none");
    BatchObject *made = (BatchObject *)slab_batch_type.tp_alloc(&slab_batch_type, 0);
    if (!made)
        return NULL;
    slab_status status = slab_batch_open(store_of(self), &made->batch, (size_t)bytes);
    if (status != SLAB_OK) {
        Py_DECREF(made);
        return slab_raise(status);
    }
    made->owner = Py_NewRef(self);
    return (PyObject *)made;
}

/* ---- looking */
static PyObject *site(const slab_store *store, size_t offset) {
    const slab_entry *entry = &slab_registry_view()->arenas[store->entry];
    slab_site at;
    /* A forked child may see that its parent has closed the store and made another there. */
    if (entry->uid != store->uid)
        return slab_raise(SLAB_STALE);
    slab_site_at(entry, offset, &at);
    return Py_BuildValue("(ssszKnnn)", at.what, at.name, at.cache, NULL,
                         (unsigned long long)(uintptr_t)(store->region.view + offset),
                         (Py_ssize_t)at.page, (Py_ssize_t)at.slot, (Py_ssize_t)at.byte);
}

/* locate(address) -> as an arena's */
static PyObject *store_locate(PyObject *self, PyObject *args) {
    const slab_store *store = store_of(self);
    unsigned long long address;
    if (!PyArg_ParseTuple(args, "O&", slab_u64, &address))
        return NULL;
    if (!store->region.base)
        return slab_raise(SLAB_STALE);
    uint64_t view = (uintptr_t)store->region.view;
    if (address < view || address - view >= store->region.size)
        Py_RETURN_NONE;
    return site(store, (size_t)(address - view));
}

typedef struct {
    const slab_store *store;
    PyObject *list;
} finding;

static void add_finding(void *context, size_t offset) {
    finding *found = context;
    PyObject *item = PyErr_Occurred() ? NULL : site(found->store, offset + sizeof(slab_kept));
    if (item)
        PyList_Append(found->list, item);
    Py_XDECREF(item);
}

static PyObject *store_verify(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    finding found = {store_of(self), PyList_New(0)};
    if (!found.list)
        return NULL;
    slab_store_verify(store_of(self), add_finding, &found);
    if (PyErr_Occurred())
        Py_CLEAR(found.list);
    return found.list;
}

static PyObject *store_enforce(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    slab_report_enforce_store(store_of(self));
    Py_RETURN_NONE;
}

static PyMethodDef store_methods[] = {
    {"batch", store_batch, METH_VARARGS, "Make a batch with room for so many bytes."},
    {"read", (PyCFunction)(void (*)(void))store_read, METH_FASTCALL,
     "Return an object's bytes, None where it is not."},
    {"read_many", (PyCFunction)(void (*)(void))store_read_many, METH_FASTCALL,
     "Return the bytes of many objects."},
    {"view", (PyCFunction)(void (*)(void))store_view, METH_FASTCALL,
     "Return a view of an object, None where it is not."},
    {"locate", store_locate, METH_VARARGS, "Say what lies at an address."},
    {"verify", store_verify, METH_NOARGS, "Return the sites of changed objects."},
    {"enforce", store_enforce, METH_NOARGS, "End the process if an object was changed."},
    {"close", store_close, METH_NOARGS, "Give the addresses back."},
    {NULL, NULL, 0, NULL},
};

PyTypeObject slab_store_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "wofs.slab._slab.Store",
    .tp_basicsize = sizeof(StoreObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .tp_doc = "Addresses for batches; the Python face is wofs.slab.Store.",
    .tp_new = store_new,
    .tp_dealloc = store_dealloc,
    .tp_methods = store_methods,
};

/* ---- batches */
#define FEW_ROWS 32

static int take_row(PyObject *item, slab_row *row) {
    unsigned long long a, b;
    PyObject *data = PyTuple_Check(item) && PyTuple_GET_SIZE(item) == 4 ? PyTuple_GET_ITEM(item, 3)
                                                                        : NULL;
    if (!data || !PyBytes_Check(data)) {
        PyErr_SetString(PyExc_TypeError, "a row is a tuple of a key, two numbers and bytes");
        return -1;
    }
    if (take_number(PyTuple_GET_ITEM(item, 1), UINT64_MAX, &a) < 0 ||
        take_number(PyTuple_GET_ITEM(item, 2), UINT64_MAX, &b) < 0)
        return -1;
    if ((size_t)PyBytes_GET_SIZE(data) > UINT32_MAX / 2) {
        slab_raise(SLAB_FULL);
        return -1;
    }
    *row = (slab_row){a, b, PyBytes_AS_STRING(data), (uint32_t)PyBytes_GET_SIZE(data)};
    return 0;
}

/* Note where the first `done` rows lie; a key may do anything when it is asked for its hash. */
static int note_places(PyObject *index, PyObject *rows, const uint64_t *places, size_t done) {
    for (size_t i = 0; i < done; i++) {
        PyObject *key = PyTuple_GET_ITEM(PyTuple_GET_ITEM(rows, (Py_ssize_t)i), 0);
        PyObject *place = PyLong_FromUnsignedLongLong(places[i]);
        int failed = !place || PyDict_SetItem(index, key, place) < 0;
        Py_XDECREF(place);
        if (failed)
            return -1;
    }
    return 0;
}

/* Publish as many rows as fit; `rows` is a tuple of nobody else. */
static PyObject *publish(slab_batch *batch, uint32_t kind, PyObject *rows, PyObject *index) {
    slab_row few[FEW_ROWS], *taken = few;
    uint64_t few_places[FEW_ROWS], *places = few_places;
    size_t count = (size_t)PyTuple_GET_SIZE(rows), done = 0, size = 0;
    if (count > FEW_ROWS) {
        taken = calloc(count, sizeof *taken);
        places = calloc(count, sizeof *places);
    }
    int failed = !taken || !places;
    if (failed)
        PyErr_NoMemory();
    for (size_t i = 0; !failed && i < count; i++)
        failed = take_row(PyTuple_GET_ITEM(rows, (Py_ssize_t)i), &taken[i]) < 0;
    slab_status status = failed ? SLAB_OK : slab_batch_put(batch, kind, taken, count, places, &done);
    if (status != SLAB_OK)
        slab_raise(status);
    for (size_t i = 0; i < done; i++)
        size += taken[i].size;
    failed = failed || status != SLAB_OK || note_places(index, rows, places, done) < 0;
    if (taken != few)
        free(taken);
    if (places != few_places)
        free(places);
    return failed ? NULL : Py_BuildValue("(nn)", (Py_ssize_t)done, (Py_ssize_t)size);
}

/* put(kind, [(key, a, b, bytes)], index) -> (how many fit, their bytes); index[key] says where */
static PyObject *batch_put(PyObject *self, PyObject *const *args, Py_ssize_t given) {
    uint32_t kind;
    if (!are_so_many(given, 3) || take_kind(args[0], &kind) < 0)
        return NULL;
    if (!PyDict_CheckExact(args[2]))
        return PyErr_Format(PyExc_TypeError, "an index is a dictionary");
    PyObject *rows = PySequence_Tuple(args[1]);
    if (!rows)
        return NULL;
    PyObject *found = publish(batch_of(self), kind, rows, args[2]);
    Py_DECREF(rows);
    return found;
}

static PyObject *batch_seal(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    slab_status status = slab_batch_seal(batch_of(self));
    if (status != SLAB_OK)
        return slab_raise(status);
    Py_RETURN_NONE;
}

/* state() -> (address, bytes, bytes used, objects, sealed) */
static PyObject *batch_state(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    const slab_batch *batch = batch_of(self);
    return Py_BuildValue("(Knnni)", (unsigned long long)(uintptr_t)batch->region.view,
                         (Py_ssize_t)batch->region.size, (Py_ssize_t)batch->used,
                         (Py_ssize_t)batch->objects, batch->region.sealed);
}

static int batch_buffer(PyObject *self, Py_buffer *view, int flags) {
    const slab_batch *batch = batch_of(self);
    return PyBuffer_FillInfo(view, self, batch->region.view, (Py_ssize_t)batch->region.size, 1, flags);
}

static void batch_dealloc(PyObject *self) {
    slab_batch_close(batch_of(self));
    Py_CLEAR(((BatchObject *)self)->owner);
    Py_TYPE(self)->tp_free(self);
}

static PyMethodDef batch_methods[] = {
    {"put", (PyCFunction)(void (*)(void))batch_put, METH_FASTCALL,
     "Publish objects, as many as fit."},
    {"seal", batch_seal, METH_NOARGS, "Refuse all further writes, for ever."},
    {"state", batch_state, METH_NOARGS, "Return where it is and what it holds."},
    {NULL, NULL, 0, NULL},
};

static PyBufferProcs batch_as_buffer = {batch_buffer, NULL};

PyTypeObject slab_batch_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "wofs.slab._slab.Batch",
    .tp_basicsize = sizeof(BatchObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_doc = "Objects protected together, given back when nothing refers to them.",
    .tp_dealloc = batch_dealloc,
    .tp_methods = batch_methods,
    .tp_as_buffer = &batch_as_buffer,
};
