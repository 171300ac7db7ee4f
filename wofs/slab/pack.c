/* Values into the bytes of objects, as their layout has them. */
#include "python.h"

#include <string.h>

static int does_not_fit(const slab_field *field, const char *why) {
    if (!PyErr_Occurred() || PyErr_ExceptionMatches(PyExc_OverflowError))
        PyErr_Format(PyExc_OverflowError, "%s: %s", field->name, why);
    return -1;
}

/* ---- numbers */

/* The value of a number that is small enough for the interpreter to have it in one piece. */
static inline int is_compact(PyObject *number, long long *value) {
    const PyLongObject *whole = (const PyLongObject *)number;
#if PY_VERSION_HEX >= 0x030C0000
    if (!PyUnstable_Long_IsCompact(whole))
        return 0;
    *value = PyUnstable_Long_CompactValue(whole);
#else
    Py_ssize_t size = Py_SIZE(number);
    if (size < -1 || size > 1)
        return 0;
    *value = (long long)size * (long long)whole->ob_digit[0];
#endif
    return 1;
}

/* Store a number where it is in the range of an item, else return 0. */
static inline int put(char code, long long value, unsigned char *to) {
    if (code == 'I') { /* nearly all are */
        uint32_t item = (uint32_t)value;
        memcpy(to, &item, sizeof item);
        return item == value;
    }
    switch (code) {
#define CASE(letter, type)                  \
    case letter: {                          \
        type item = (type)value;            \
        memcpy(to, &item, sizeof item);     \
        return (long long)item == value;    \
    }
        CASE('B', uint8_t)
        CASE('H', uint16_t)
        CASE('b', int8_t)
        CASE('h', int16_t)
        CASE('i', int32_t)
        CASE('q', int64_t)
#undef CASE
    case 'Q': /* a larger one comes by pack_unsigned() */
        memcpy(to, &value, sizeof value);
        return value >= 0;
    }
    return 0;
}

static int pack_unsigned(const slab_field *field, PyObject *number, unsigned char *to) {
    unsigned long long value = PyLong_AsUnsignedLongLong(number);
    if (value == (unsigned long long)-1 && PyErr_Occurred())
        return does_not_fit(field, "the number is negative or beyond 64 bits");
    if (field->code == 'Q')
        memcpy(to, &value, sizeof value);
    else if (value > INT64_MAX || !put(field->code, (long long)value, to))
        return does_not_fit(field, "the number is too large");
    return 0;
}

static int pack_signed(const slab_field *field, PyObject *number, unsigned char *to) {
    long long value = PyLong_AsLongLong(number);
    if (value == -1 && PyErr_Occurred())
        return does_not_fit(field, "the number is beyond 64 bits");
    if (!put(field->code, value, to))
        return does_not_fit(field, "the number is too large or too small");
    return 0;
}

/* An object's __index__ may run anything: what it was taken from is not looked at again before
 * its length has been. */
static int pack_any(const slab_field *field, PyObject *item, unsigned char *to) {
    Py_INCREF(item);
    PyObject *number = PyNumber_Index(item);
    Py_DECREF(item);
    if (!number)
        return -1;
    int failed = field->code >= 'a' ? pack_signed(field, number, to)
                                    : pack_unsigned(field, number, to);
    Py_DECREF(number);
    return failed;
}

static inline int pack_number(const slab_field *field, PyObject *item, unsigned char *to) {
    long long value;
    if (PyLong_CheckExact(item) && is_compact(item, &value) && put(field->code, value, to))
        return 0;
    return pack_any(field, item, to);
}

/* ---- values */
static int pack_bytes(const slab_field *field, PyObject *item, unsigned char *to) {
    if (!PyBytes_Check(item)) {
        PyErr_Format(PyExc_TypeError, "%s: bytes are needed, not %s", field->name,
                     Py_TYPE(item)->tp_name);
        return -1;
    }
    if ((size_t)PyBytes_GET_SIZE(item) > field->count)
        return does_not_fit(field, "too many bytes");
    memcpy(to, PyBytes_AS_STRING(item), (size_t)PyBytes_GET_SIZE(item));
    return 0;
}

/* Asked for its items a value may let go of itself, as of what holds it. */
static int pack_items(const slab_field *field, PyObject *items, unsigned char *to) {
    Py_INCREF(items);
    PyObject *all = PySequence_Tuple(items);
    Py_DECREF(items);
    if (!all)
        return -1;
    int failed = PyTuple_GET_SIZE(all) != (Py_ssize_t)field->count;
    if (failed)
        PyErr_Format(PyExc_TypeError, "%s: %zd values for %u", field->name, PyTuple_GET_SIZE(all),
                     field->count);
    for (uint32_t i = 0; !failed && i < field->count; i++)
        failed = pack_number(field, PyTuple_GET_ITEM(all, (Py_ssize_t)i), to + i * field->item);
    Py_DECREF(all);
    return failed ? -1 : 0;
}

static inline int pack_value(const slab_field *field, PyObject *value, unsigned char *object) {
    if (field->code == 's')
        return pack_bytes(field, value, object + field->offset);
    if (field->count == 1)
        return pack_number(field, value, object + field->offset);
    return pack_items(field, value, object + field->offset);
}

int slab_pack_value(const slab_field *field, PyObject *value, unsigned char *object) {
    return pack_value(field, value, object);
}

/* ---- rows */

/* Store the values from number `i` on, up to the first that is not simply a small number which
 * fits; return its number. Runs nothing of Python's, so `items` stays what it is. */
static inline uint32_t pack_simple(const slab_layout *layout, PyObject *const *items, uint32_t i,
                                   unsigned char *to) {
    const slab_field *field = &layout->fields[i];
    for (long long value; i < layout->nfields; i++, field++)
        if (!field->is_one || !PyLong_CheckExact(items[i]) || !is_compact(items[i], &value) ||
            !put(field->code, value, to + field->offset))
            break;
    return i;
}

static int pack_row(const slab_layout *layout, PyObject *row, unsigned char *to) {
    PyObject *values = PySequence_Fast(row, "a row is a sequence of values");
    if (!values)
        return -1;
    int failed = 0;
    for (uint32_t i = 0; !failed && i < layout->nfields; i++) {
        failed = PySequence_Fast_GET_SIZE(values) != (Py_ssize_t)layout->nfields;
        if (failed) {
            PyErr_Format(PyExc_TypeError, "%zd values for %u fields",
                         PySequence_Fast_GET_SIZE(values), layout->nfields);
            break;
        }
        i = pack_simple(layout, PySequence_Fast_ITEMS(values), i, to);
        if (i < layout->nfields)
            failed = pack_value(&layout->fields[i], PySequence_Fast_GET_ITEM(values, (Py_ssize_t)i),
                                to);
    }
    Py_DECREF(values);
    return failed ? -1 : 0;
}

/* pack(layout, rows) -> the bytes of an object a row, in the layout's order of fields */
PyObject *slab_py_pack(PyObject *Py_UNUSED(module), PyObject *args) {
    Py_ssize_t id;
    PyObject *rows;
    if (!PyArg_ParseTuple(args, "nO", &id, &rows))
        return NULL;
    const slab_layout *layout = slab_layout_at((size_t)id);
    if (!layout)
        return PyErr_Format(PyExc_ValueError, "no layout has the id %zd", id);
    PyObject *all = PySequence_Tuple(rows); /* ours: nothing changes it meanwhile */
    if (!all)
        return NULL;
    Py_ssize_t count = PyTuple_GET_SIZE(all), size = (Py_ssize_t)layout->size;
    PyObject *packed = count > PY_SSIZE_T_MAX / size ? PyErr_NoMemory()
                                                     : PyBytes_FromStringAndSize(NULL, count * size);
    for (Py_ssize_t i = 0; packed && i < count; i++) {
        unsigned char *to = (unsigned char *)PyBytes_AS_STRING(packed) + i * size;
        memset(to, 0, (size_t)size);
        if (pack_row(layout, PyTuple_GET_ITEM(all, i), to) < 0)
            Py_CLEAR(packed);
    }
    Py_DECREF(all);
    return packed;
}
