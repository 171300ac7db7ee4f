/* Inode numbers and the entries of directories, in bulk; what is odd is declined (see _decode.c). */
#include "_decode.h"

#include <stdlib.h>

enum {
    DATA_HEADER_BYTES = 64, /* ondisk/dir.py */
    MOST_FTYPE = 8,
};

/* ---- inode numbers */

typedef struct {
    unsigned int shift;                            /* bits of an agino */
    unsigned long long last_ag, first, full, last; /* aginos: the first, the ends of AGs */
    int ftype;                                     /* whether entries have one */
} numbers;

/* For "O&": what geometry.py's ino_bounds() returns. */
static int parse_bounds(PyObject *bounds, void *to) {
    numbers *of = to;
    if (!PyTuple_Check(bounds)) {
        PyErr_SetString(PyExc_TypeError, "bounds of inode numbers are a tuple");
        return 0;
    }
    if (!PyArg_ParseTuple(bounds, "IKKKK", &of->shift, &of->last_ag, &of->first, &of->full, &of->last))
        return 0;
    if (of->shift > 63)
        PyErr_SetString(PyExc_ValueError, "no such inode numbers");
    return of->shift <= 63;
}

static int is_ino(const numbers *of, uint64_t ino) {
    uint64_t agno = ino >> of->shift, agino = ino & ((1ULL << of->shift) - 1);
    return agno <= of->last_ag && agino >= of->first
           && agino < (agno < of->last_ag ? of->full : of->last);
}

/* ---- where inodes lie */

typedef struct {
    uint64_t byte;
    PyObject *ino; /* borrowed */
} place;

static int by_byte(const void *one, const void *other) {
    uint64_t a = ((const place *)one)->byte, b = ((const place *)other)->byte;
    return (a > b) - (a < b);
}

/* Append the places from `from` up to `end` to `runs` as one list of (byte, ino). */
static int append_run(PyObject *runs, const place *from, const place *end) {
    PyObject *run = PyList_New(end - from);
    for (Py_ssize_t i = 0; run && i < end - from; i++) {
        PyObject *pair = Py_BuildValue("KO", (unsigned long long)from[i].byte, from[i].ino);
        if (pair)
            PyList_SET_ITEM(run, i, pair);
        else
            Py_CLEAR(run);
    }
    int failed = run ? PyList_Append(runs, run) : -1;
    Py_XDECREF(run);
    return failed;
}

/* Split sorted places into runs that are worth one read each. */
static PyObject *runs_of(const place *at, const place *end, uint64_t gap, uint64_t most) {
    PyObject *runs = PyList_New(0);
    while (runs && at < end) {
        const place *stop = at + 1;
        while (stop < end && stop->byte - stop[-1].byte <= gap && stop->byte - at->byte <= most)
            stop++;
        if (append_run(runs, at, stop) < 0)
            Py_CLEAR(runs);
        at = stop;
    }
    return runs;
}

PyDoc_STRVAR(places_doc,
"places(inos, bounds, inode_log, ag_bytes, gap, most) -> (runs, outside)\n\n"
"Sort inodes by the byte of the device they lie at. A run is a list of (byte, ino) pairs, each\n"
"at most `gap` bytes behind the one before and `most` behind the first; `outside` are the\n"
"numbers that lie outside the filesystem.");

static PyObject *places(PyObject *Py_UNUSED(module), PyObject *args) {
    PyObject *inos, *outside = NULL, *runs = NULL;
    numbers of;
    unsigned int inode_log;
    unsigned long long ag_bytes, gap, most;
    if (!PyArg_ParseTuple(args, "O!O&IKKK", &PyList_Type, &inos, parse_bounds, &of, &inode_log,
                          &ag_bytes, &gap, &most))
        return NULL;
    Py_ssize_t count = PyList_GET_SIZE(inos), inside = 0;
    place *found = PyMem_New(place, count ? (size_t)count : 1);
    if (!found)
        return PyErr_NoMemory();
    outside = PyList_New(0);
    for (Py_ssize_t i = 0; outside && i < count; i++) {
        PyObject *number = PyList_GET_ITEM(inos, i);
        uint64_t ino = PyLong_AsUnsignedLongLong(number), agino = ino & ((1ULL << of.shift) - 1);
        int wide = PyErr_Occurred() && PyErr_ExceptionMatches(PyExc_OverflowError);
        if (wide)
            PyErr_Clear();
        if (!PyErr_Occurred() && !wide && is_ino(&of, ino))
            found[inside++] = (place){(ino >> of.shift) * ag_bytes + (agino << inode_log), number};
        else if (PyErr_Occurred() || PyList_Append(outside, number) < 0)
            Py_CLEAR(outside);
    }
    if (outside) {
        qsort(found, (size_t)inside, sizeof *found, by_byte);
        runs = runs_of(found, found + inside, gap, most);
    }
    PyMem_Free(found);
    return runs ? Py_BuildValue("NN", runs, outside) : (Py_XDECREF(outside), NULL);
}

/* ---- directory entries */

static int append(
    PyObject *to, uint64_t cookie, uint64_t ino, unsigned int ftype, const unsigned char *name,
    size_t namelen
) {
    PyObject *entry = Py_BuildValue("KKIy#", (unsigned long long)cookie, (unsigned long long)ino,
                                    ftype, (const char *)name, (Py_ssize_t)namelen);
    int failed = entry ? PyList_Append(to, entry) : -1;
    Py_XDECREF(entry);
    return failed;
}

/* The bytes of the entry at `p`, of which `left` remain, or 0: declined; -1 with an exception. */
static Py_ssize_t data_entry(
    PyObject *to, const unsigned char *p, size_t left, uint64_t at, uint64_t base, const numbers *of
) {
    if (left >= 8 && p[0] == 0xFF && p[1] == 0xFF) {
        size_t length = be16(p + 2);
        return length >= 8 && !(length & 7) && length <= left && be16(p + length - 2) == at
                   ? (Py_ssize_t)length : 0;
    }
    if (left < 16)
        return 0;
    size_t namelen = p[8], extra = of->ftype ? 3 : 2;
    size_t length = (9 + namelen + extra + 7) & ~(size_t)7;
    uint64_t ino = be64(p);
    if (!namelen || length > left || !is_ino(of, ino) || be16(p + length - 2) != at)
        return 0;
    unsigned int ftype = of->ftype ? p[9 + namelen] : 0;
    if (ftype > MOST_FTYPE)
        return 0;
    if (append(to, ((base + at) >> 3) + 1, ino, ftype, p + 9, namelen) < 0)
        return -1;
    return (Py_ssize_t)length;
}

static PyObject *declined_or(PyObject *out, int declined) {
    if (declined || PyErr_Occurred())
        Py_CLEAR(out);
    if (declined && !PyErr_Occurred())
        Py_RETURN_NONE;
    return out;
}

PyDoc_STRVAR(data_entries_doc,
"data_entries(data, end, base, bounds, has_ftype) -> list | None\n\n"
"Return the entries of a data block that lie before byte `end`; None: declined.");

static PyObject *data_entries(PyObject *Py_UNUSED(module), PyObject *args) {
    Py_buffer data;
    Py_ssize_t end;
    unsigned long long base;
    numbers of;
    if (!PyArg_ParseTuple(args, "y*nKO&p", &data, &end, &base, parse_bounds, &of, &of.ftype))
        return NULL;
    PyObject *out = PyList_New(0);
    Py_ssize_t at = DATA_HEADER_BYTES, length = 1;
    if (end > data.len)
        length = 0;
    while (out && length > 0 && at < end) {
        length = data_entry(out, (const unsigned char *)data.buf + at, (size_t)(end - at),
                            (uint64_t)at, base, &of);
        at += length;
    }
    PyBuffer_Release(&data);
    return declined_or(out, length == 0);
}

PyDoc_STRVAR(sf_entries_doc,
"sf_entries(fork, bounds, has_ftype) -> list | None\n\n"
"Return the entries of a shortform directory, '.' and '..' left out; None: declined.");

static PyObject *sf_entries(PyObject *Py_UNUSED(module), PyObject *args) {
    Py_buffer fork;
    numbers of;
    if (!PyArg_ParseTuple(args, "y*O&p", &fork, parse_bounds, &of, &of.ftype))
        return NULL;
    const unsigned char *p = fork.buf;
    PyObject *out = PyList_New(0);
    size_t size = (size_t)fork.len, width = size > 1 && p[1] ? 8 : 4, at = 2 + width;
    unsigned int offset = 0, least = DATA_HEADER_BYTES + 32;
    int declined = size < 6 || size < at;
    for (unsigned int left = declined ? 0 : p[0]; out && left && !declined; left--) {
        size_t namelen = at < size ? p[at] : 0, stop = at + 3 + namelen + (of.ftype ? 1 : 0) + width;
        declined = 1;
        if (!namelen || stop > size)
            break;
        offset = be16(p + at + 1);
        unsigned int ftype = of.ftype ? p[at + 3 + namelen] : 0;
        uint64_t ino = width == 8 ? be64(p + stop - 8) : be32(p + stop - 4);
        if (offset < least || offset & 7 || ftype > MOST_FTYPE || !is_ino(&of, ino))
            break;
        if (append(out, (offset >> 3) + 1, ino, ftype, p + at + 3, namelen) < 0)
            break;
        least = offset + 1;
        at = stop;
        declined = 0;
    }
    declined |= at != size;
    PyBuffer_Release(&fork);
    return declined_or(out, declined);
}

static uint32_t turned(uint32_t value, int bits) {
    return value << bits | value >> (32 - bits);
}

PyDoc_STRVAR(da_hashname_doc,
"da_hashname(name) -> int\n\n"
"Return the 32-bit rotate-and-xor hash of a name (`xfs_da_btree.c: xfs_da_hashname`).");

static PyObject *da_hashname(PyObject *Py_UNUSED(module), PyObject *name) {
    char *bytes;
    Py_ssize_t left;
    if (PyBytes_AsStringAndSize(name, &bytes, &left) < 0)
        return NULL;
    const unsigned char *p = (const unsigned char *)bytes;
    uint32_t hash = 0;
    for (; left >= 4; left -= 4, p += 4)
        hash = (uint32_t)p[0] << 21 ^ (uint32_t)p[1] << 14 ^ (uint32_t)p[2] << 7 ^ p[3] ^ turned(hash, 28);
    for (; left > 0; left--, p++)
        hash = *p ^ turned(hash, 7);
    return PyLong_FromUnsignedLong(hash);
}

PyMethodDef name_functions[] = {
    {"da_hashname", da_hashname, METH_O, da_hashname_doc},
    {"places", places, METH_VARARGS, places_doc},
    {"data_entries", data_entries, METH_VARARGS, data_entries_doc},
    {"sf_entries", sf_entries, METH_VARARGS, sf_entries_doc},
    {NULL, NULL, 0, NULL},
};
