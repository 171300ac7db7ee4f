/* Layouts of record types: what Python declares, checked and published. */
#include "python.h"

#include <stdlib.h>
#include <string.h>

static uint32_t item_bytes(char code) {
    switch (code) {
    case 'H': case 'h': return 2;
    case 'I': case 'i': return 4;
    case 'Q': case 'q': return 8;
    default: return 1;
    }
}

static int fill_field(slab_field *field, uint32_t size, PyObject *item) {
    const char *name, *code;
    unsigned int offset, count;
    if (!PyArg_ParseTuple(item, "ssO&O&", &name, &code, slab_u32, &offset, slab_u32, &count))
        return -1;
    int known = strlen(code) == 1 && strchr("BHIQbhiqs", code[0]) != NULL;
    uint32_t bytes = known ? item_bytes(code[0]) : 0;
    if (strlen(name) >= SLAB_NAME_MAX || !known || count == 0 || offset > size ||
        count > (size - offset) / bytes) {
        PyErr_Format(PyExc_ValueError, "field %s: its name, code or place is wrong", name);
        return -1;
    }
    strcpy(field->name, name);
    field->code = code[0];
    field->offset = offset;
    field->count = count;
    field->item = bytes;
    field->is_one = code[0] != 's' && count == 1;
    field->end = offset + count * bytes;
    return 0;
}

/* layout(name, size, fields, type_name) -> (id, type of the handles) */
PyObject *slab_py_layout(PyObject *Py_UNUSED(module), PyObject *args) {
    const char *name, *type_name;
    unsigned int size;
    PyObject *fields;
    size_t id = 0;
    if (!PyArg_ParseTuple(args, "sO&O!s", &name, slab_u32, &size, &PyTuple_Type, &fields,
                          &type_name))
        return NULL;
    Py_ssize_t n = PyTuple_GET_SIZE(fields);
    if (strlen(name) >= SLAB_NAME_MAX || size == 0 || size > UINT16_MAX || n < 1 || n > 1000)
        return PyErr_Format(PyExc_ValueError, "layout %s: its name, size or field count is wrong",
                            name);
    size_t bytes = sizeof(slab_layout) + (size_t)n * sizeof(slab_field);
    slab_layout *layout = calloc(1, bytes);
    if (!layout)
        return PyErr_NoMemory();
    strcpy(layout->name, name);
    layout->size = size;
    layout->nfields = (uint32_t)n;
    for (Py_ssize_t i = 0; i < n && !PyErr_Occurred(); i++)
        fill_field(&layout->fields[i], size, PyTuple_GET_ITEM(fields, i));
    if (!PyErr_Occurred()) {
        slab_status status = slab_layout_publish(layout, bytes, &id);
        if (status != SLAB_OK)
            slab_raise(status);
    }
    free(layout);
    PyObject *type = PyErr_Occurred() ? NULL : slab_handle_type(id, type_name);
    return type ? Py_BuildValue("(nN)", (Py_ssize_t)id, type) : NULL;
}
