/* The extension module: its functions, and how statuses become exceptions. */
#include "python.h"

#include "report.h"

#include <string.h>

static PyObject *slab_error, *slab_full, *slab_finished, *stale_handle;

int slab_find_errors(void) {
    static const char *const names[] = {"SlabError", "SlabFull", "SlabFinished", "StaleHandle"};
    PyObject **const places[] = {&slab_error, &slab_full, &slab_finished, &stale_handle};
    PyObject *errors = PyImport_ImportModule("wofs.errors");
    if (!errors)
        return -1;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        *places[i] = PyObject_GetAttrString(errors, names[i]);
        if (!*places[i])
            break;
    }
    Py_DECREF(errors);
    return PyErr_Occurred() ? -1 : 0;
}

PyObject *slab_raise(slab_status status) {
    switch (status) {
    case SLAB_OK:
    case SLAB_OS:
        return PyErr_SetFromErrno(PyExc_OSError);
    case SLAB_FULL:
        return PyErr_Format(slab_full, "the arena has no room left");
    case SLAB_FINISHED:
        return PyErr_Format(slab_finished, "the arena is sealed");
    case SLAB_STALE:
        return PyErr_Format(stale_handle, "the object was freed, or its arena is closed");
    case SLAB_BUSY:
        return PyErr_Format(PyExc_BufferError, "a buffer of the object is still in use");
    case SLAB_TOO_BIG:
        return PyErr_Format(slab_error, "the object does not fit a page");
    case SLAB_LONG_NAME:
        return PyErr_Format(slab_error, "a name has at most %d bytes", SLAB_NAME_MAX - 1);
    case SLAB_LOST:
        return PyErr_Format(slab_error, "memory does not hold what was published");
    case SLAB_WHOLE:
        return PyErr_Format(slab_error, "a pool is given back whole: none of its objects is freed");
    case SLAB_FORKED:
        return PyErr_Format(slab_error, "the arena belongs to the parent process");
    }
    return PyErr_Format(PyExc_SystemError, "slab status %d", (int)status);
}

void slab_refuse(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    PyErr_FormatV(slab_error, format, arguments);
    va_end(arguments);
}

int slab_u64(PyObject *number, void *to) {
    PyObject *whole = PyNumber_Index(number);
    if (!whole)
        return 0;
    *(unsigned long long *)to = PyLong_AsUnsignedLongLong(whole);
    Py_DECREF(whole);
    return !PyErr_Occurred();
}

int slab_u32(PyObject *number, void *to) {
    unsigned long long value;
    if (!slab_u64(number, &value))
        return 0;
    if (value > UINT32_MAX) {
        PyErr_SetString(PyExc_OverflowError, "a number is beyond 32 bits");
        return 0;
    }
    *(unsigned int *)to = (unsigned int)value;
    return 1;
}

/* address(handle, field) -> where the field's bytes are */
static PyObject *slab_address(PyObject *Py_UNUSED(module), PyObject *args) {
    PyObject *object;
    const char *name;
    const slab_layout *layout;
    if (!PyArg_ParseTuple(args, "Os", &object, &name))
        return NULL;
    if (!slab_is_handle(object))
        return PyErr_Format(PyExc_TypeError, "not a handle of the slab");
    const unsigned char *at = slab_handle_object(object, &layout);
    if (!at)
        return NULL;
    for (uint32_t i = 0; layout && i < layout->nfields; i++)
        if (strcmp(layout->fields[i].name, name) == 0)
            return PyLong_FromUnsignedLongLong((uintptr_t)(at + layout->fields[i].offset));
    return PyErr_Format(PyExc_AttributeError, "no field %s", name);
}

/* report_to(path) -> descriptor of the file that crash reports are appended to */
static PyObject *slab_set_report(PyObject *Py_UNUSED(module), PyObject *args) {
    PyObject *path;
    if (!PyArg_ParseTuple(args, "O&", PyUnicode_FSConverter, &path))
        return NULL;
    int fd = slab_report_to(PyBytes_AS_STRING(path));
    if (fd < 0)
        PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, path);
    Py_DECREF(path);
    return fd < 0 ? NULL : PyLong_FromLong(fd);
}

/* report_json(path, folder): append crash reports to a file, or make one each in a folder */
static PyObject *slab_set_json(PyObject *Py_UNUSED(module), PyObject *args) {
    PyObject *path;
    int is_folder;
    if (!PyArg_ParseTuple(args, "O&p", PyUnicode_FSConverter, &path, &is_folder))
        return NULL;
    int failed = slab_json_to(PyBytes_AS_STRING(path), is_folder) < 0;
    if (failed)
        PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, path);
    Py_DECREF(path);
    if (failed)
        return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"layout", slab_py_layout, METH_VARARGS, "Publish a record type; return (id, handle type)."},
    {"pack", slab_py_pack, METH_VARARGS, "Return the bytes of an object for each row of values."},
    {"address", slab_address, METH_VARARGS, "Return the address of a handle's field."},
    {"report_to", slab_set_report, METH_VARARGS, "Append crash reports to a file too."},
    {"report_json", slab_set_json, METH_VARARGS, "Write crash reports as JSON too."},
    {NULL, NULL, 0, NULL},
};

/* Whether the interpreter's lock is there: told to do without it (PYTHON_GIL=0), a free-threaded
 * Python does not take it back for a module that says it needs it. */
static int has_lock(void) {
#ifdef Py_GIL_DISABLED
    PyObject *ask = PySys_GetObject("_is_gil_enabled"); /* borrowed */
    PyObject *answer = ask ? PyObject_CallNoArgs(ask) : PyErr_Format(PyExc_ImportError, "no sys");
    int is = answer ? PyObject_IsTrue(answer) : -1;
    Py_XDECREF(answer);
    return is;
#else
    return 1;
#endif
}

/* All arenas of the process share one registry, and one lock guards them: the interpreter's. So a
 * subinterpreter gets an ImportError, and a Python without that lock takes it back (PEP 703) or
 * gets one too. */
static int fill_module(PyObject *made) {
    if (PyInterpreterState_Get() != PyInterpreterState_Main()) {
        PyErr_SetString(PyExc_ImportError, "wofs.slab serves the main interpreter only");
        return -1;
    }
    int is_locked = has_lock();
    if (is_locked == 0)
        PyErr_SetString(PyExc_ImportError,
                        "wofs.slab needs the global interpreter lock, and PYTHON_GIL=0 or -X gil=0 "
                        "keeps it away");
    if (is_locked <= 0)
        return -1;
    if (slab_find_errors() < 0 || PyType_Ready(&slab_arena_type) < 0)
        return -1;
    if (PyType_Ready(&slab_filler_type) < 0 || PyType_Ready(&slab_store_type) < 0 ||
        PyType_Ready(&slab_batch_type) < 0)
        return -1;
    if (PyModule_AddObjectRef(made, "Store", (PyObject *)&slab_store_type) < 0)
        return -1;
    if (PyModule_AddFunctions(made, slab_stray_methods) < 0)
        return -1;
    return PyModule_AddObjectRef(made, "Arena", (PyObject *)&slab_arena_type);
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, fill_module},
#ifdef Py_mod_multiple_interpreters
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#endif
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, .m_name = "_slab", .m_methods = functions, .m_slots = slots};

PyMODINIT_FUNC PyInit__slab(void) {
    return PyModuleDef_Init(&module);
}
