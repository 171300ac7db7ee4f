/* Stray writes on purpose, for demonstrations and tests: what a bug would do, in C.
 *
 * None of these makes memory writable; each only stores to an address, as any code could.
 */
#include "python.h"

#include <string.h>

static PyObject *stray_store(PyObject *Py_UNUSED(module), PyObject *args) {
    unsigned long long address;
    unsigned char value;
    if (!PyArg_ParseTuple(args, "KB", &address, &value))
        return NULL;
    *(volatile unsigned char *)(uintptr_t)address = value;
    Py_RETURN_NONE;
}

/* An overrun: bytes from a buffer of the program on, until it is stopped. */
static PyObject *stray_overrun(PyObject *Py_UNUSED(module), PyObject *args) {
    unsigned long long address;
    Py_ssize_t count;
    if (!PyArg_ParseTuple(args, "Kn", &address, &count))
        return NULL;
    volatile unsigned char *at = (volatile unsigned char *)(uintptr_t)address;
    for (Py_ssize_t i = 0; i < count; i++)
        at[i] = 0x41;
    Py_RETURN_NONE;
}

PyMethodDef slab_stray_methods[] = {
    {"stray_store", stray_store, METH_VARARGS, "Store a byte at an address: an attack."},
    {"stray_overrun", stray_overrun, METH_VARARGS, "Store bytes from an address on: an attack."},
    {NULL, NULL, 0, NULL},
};
