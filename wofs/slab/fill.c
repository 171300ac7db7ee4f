/* Fillers: callables that create an object of one cache from values by name.
 *
 * The names come as the interpreter passes them, with no dictionary between: each is looked up by
 * its address in the protected table of the type's fields.
 */
#include "python.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define MOST_FIELDS 1000 /* as a layout has at most */
#define USUAL_BYTES 512  /* larger objects are put together in memory that is asked for */

typedef struct {
    PyObject_HEAD
    vectorcallfunc call;
    PyObject *arena;
    PyTypeObject *type; /* of the handles */
    const slab_layout *layout;
    uint32_t cache;
} FillerObject;

/* ---- what is wrong with the names */
static int add_name(PyObject *set, PyObject *name) {
    return name ? PySet_Add(set, name) : -1;
}

/* The names that are given and no field's, or a field's and not given, as "a, b"; NULL: failed. */
static PyObject *difference(const slab_layout *layout, PyObject *names) {
    PyObject *fields = PySet_New(NULL), *given = PySet_New(names), *text = NULL;
    for (uint32_t i = 0; fields && given && i < layout->nfields; i++) {
        PyObject *name = PyUnicode_FromString(layout->fields[i].name);
        int failed = add_name(fields, name) < 0;
        Py_XDECREF(name);
        if (failed)
            Py_CLEAR(fields);
    }
    PyObject *wrong = fields && given ? PyNumber_Xor(fields, given) : NULL;
    PyObject *list = wrong ? PySequence_List(wrong) : NULL;
    PyObject *comma = PyUnicode_FromString(", ");
    if (list && comma && PyList_Sort(list) == 0)
        text = PyUnicode_Join(comma, list);
    Py_XDECREF(comma);
    Py_XDECREF(list);
    Py_XDECREF(wrong);
    Py_XDECREF(given);
    Py_XDECREF(fields);
    return text;
}

static void raise_names(const slab_layout *layout, const char *called, PyObject *names) {
    PyObject *wrong = difference(layout, names);
    if (wrong)
        slab_refuse("%s: the values must be those of %s: not %U", called, layout->name, wrong);
    Py_XDECREF(wrong);
}

/* What was raised, for us to hold. */
static PyObject *take_raised(void) {
#if PY_VERSION_HEX >= 0x030C0000
    return PyErr_GetRaisedException();
#else
    PyObject *type, *raised, *traceback;
    PyErr_Fetch(&type, &raised, &traceback);
    PyErr_NormalizeException(&type, &raised, &traceback);
    if (traceback)
        PyException_SetTraceback(raised, traceback);
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return raised;
#endif
}

/* A value does not fit: the same exception as for anything that the slab refuses. */
static void raise_value(const slab_layout *layout, const char *called) {
    if (!PyErr_ExceptionMatches(PyExc_OverflowError) && !PyErr_ExceptionMatches(PyExc_TypeError))
        return;
    PyObject *cause = take_raised();
    slab_refuse("%s: %s: %S", called, layout->name, cause);
    PyObject *refused = take_raised();
    PyException_SetCause(refused, cause); /* takes the reference */
    PyErr_SetObject((PyObject *)Py_TYPE(refused), refused);
    Py_DECREF(refused);
}

/* ---- filling */

/* Put values where their fields lie; each field must have one. */
static int fill(const FillerObject *self, const char *called, PyObject *const *values,
                PyObject *names, unsigned char *object) {
    const slab_layout *layout = self->layout;
    Py_ssize_t count = names ? PyTuple_GET_SIZE(names) : 0;
    uint64_t given[MOST_FIELDS / 64 + 1] = {0};
    int right = count == (Py_ssize_t)layout->nfields;
    for (Py_ssize_t i = 0; right && i < count; i++) {
        const slab_field *field = slab_field_called(self->type, PyTuple_GET_ITEM(names, i));
        size_t number = field ? (size_t)(field - layout->fields) : 0;
        right = field && !(given[number / 64] & 1ULL << number % 64);
        given[number / 64] |= 1ULL << number % 64;
        if (right && slab_pack_value(field, values[i], object) < 0) {
            raise_value(layout, called);
            return -1;
        }
    }
    if (!right)
        raise_names(layout, called, names);
    return right ? 0 : -1;
}

static PyObject *publish(const FillerObject *self, const char *called, const void *object) {
    slab_arena *arena = slab_arena_in(self->arena);
    slab_place place;
    slab_status status = slab_arena_init(arena, self->cache, called, object, &place);
    return status == SLAB_OK ? slab_handle_new(self->type, arena, place) : slab_raise(status);
}

static PyObject *filler_call(PyObject *callable, PyObject *const *args, size_t flags,
                             PyObject *names) {
    const FillerObject *self = (const FillerObject *)callable;
    unsigned char usual[USUAL_BYTES], *object = usual;
    size_t size = self->layout->size;
    if (PyVectorcall_NARGS(flags) != 1 || !PyUnicode_Check(args[0]))
        return PyErr_Format(PyExc_TypeError, "an object's name is needed, then values by name");
    Py_ssize_t length;
    const char *called = PyUnicode_AsUTF8AndSize(args[0], &length);
    if (!called)
        return NULL;
    if (strlen(called) != (size_t)length)
        return PyErr_Format(PyExc_ValueError, "a name has no null character");
    if (size > sizeof usual && !(object = malloc(size)))
        return PyErr_NoMemory();
    memset(object, 0, size);
    PyObject *made = NULL;
    if (fill(self, called, args + 1, names, object) == 0)
        made = publish(self, called, object);
    if (object != usual)
        free(object);
    return made;
}

/* filler(cache, layout, type) of an arena, the face of which checks that they belong together */
PyObject *slab_filler_new(PyObject *arena, uint32_t cache, const slab_layout *layout,
                          PyTypeObject *type) {
    FillerObject *made = (FillerObject *)slab_filler_type.tp_alloc(&slab_filler_type, 0);
    if (!made)
        return NULL;
    made->call = filler_call;
    made->arena = Py_NewRef(arena);
    made->type = (PyTypeObject *)Py_NewRef((PyObject *)type);
    made->layout = layout;
    made->cache = cache;
    return (PyObject *)made;
}

static void filler_dealloc(PyObject *self) {
    FillerObject *filler = (FillerObject *)self;
    Py_XDECREF(filler->arena);
    Py_XDECREF((PyObject *)filler->type);
    Py_TYPE(self)->tp_free(self);
}

PyTypeObject slab_filler_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "wofs.slab._slab.Filler",
    .tp_basicsize = sizeof(FillerObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION |
                Py_TPFLAGS_HAVE_VECTORCALL,
    .tp_doc = "Creates an object called as its first argument says, with the values given by name.",
    .tp_dealloc = filler_dealloc,
    .tp_call = PyVectorcall_Call,
    .tp_vectorcall_offset = offsetof(FillerObject, call),
};
