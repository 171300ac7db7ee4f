/* Inodes and directory entries decoded in bulk: the hottest loops of a listing.
 *
 * Only what is sound and of the common shape is decoded here. Everything else is declined, and the
 * Python beside it (inode.py, dir/parse.py) decides: there the rules are, with their names. So a
 * mistake here may cost time, or must show where the tests compare both on the same bytes.
 */
#include "_decode.h"

#include <stddef.h>
#include <structmember.h>
#include <sys/sysmacros.h>

enum {
    CORE_BYTES = 176, /* ondisk/inode.py */
    CRC_AT = 100,
    FMT_LOCAL = 1,
    FMT_EXTENTS = 2,
    CHR = 2,
    DIR = 4,
    BLK = 6,
    REG = 8,
    LNK = 10,
    FLAG2_REFLINK = 2,
    FLAG2_BIGTIME = 8,
    FLAG2_NREXT64 = 16,
    CHUNK_INODES = 64,
    BLOCKS_BITS = 55, /* inode.py */
};

#define NS_PER_S 1000000000ULL
#define BIGTIME_EPOCH_NS ((1ULL << 31) * NS_PER_S)

/* ---- the decoded inode */

typedef struct {
    PyObject_HEAD
    PyObject *raw;
    unsigned long long ino, size, nblocks, nextents, anextents, flags2, rdev;
    /* Nanoseconds since 1970 by wrapping: none is before -BIGTIME_EPOCH_NS, so what lies above
     * the wrapped value of that is negative. */
    uint64_t atime_ns, mtime_ns, ctime_ns, crtime_ns;
    unsigned int mode, uid, gid, nlink, projid, gen, flags, format, aformat, forkoff;
} core;

#define LONG(name) {#name, T_ULONGLONG, offsetof(core, name), 0, NULL}
#define INT(name) {#name, T_UINT, offsetof(core, name), 0, NULL}

static PyMemberDef core_members[] = {
    {"raw", T_OBJECT_EX, offsetof(core, raw), 0, NULL},
    LONG(ino), LONG(size), LONG(nblocks), LONG(nextents), LONG(anextents), LONG(flags2), LONG(rdev),
    INT(mode), INT(uid), INT(gid), INT(nlink), INT(projid), INT(gen), INT(flags), INT(format),
    INT(aformat), INT(forkoff),
    {NULL, 0, 0, 0, NULL},
};

static uint64_t *stamp_of(PyObject *self, void *offset) {
    return (uint64_t *)(void *)((char *)self + (uintptr_t)offset);
}

static PyObject *get_ns(PyObject *self, void *offset) {
    uint64_t ns = *stamp_of(self, offset);
    if (ns >= 0 - BIGTIME_EPOCH_NS)
        return PyLong_FromLongLong((long long)ns);
    return PyLong_FromUnsignedLongLong(ns);
}

static int set_ns(PyObject *self, PyObject *value, void *offset) {
    if (!value) {
        PyErr_SetString(PyExc_AttributeError, "an inode keeps its times");
        return -1;
    }
    uint64_t ns = PyLong_AsUnsignedLongLongMask(value);
    if (ns == (uint64_t)-1 && PyErr_Occurred())
        return -1;
    *stamp_of(self, offset) = ns;
    return 0;
}

#define NS(name) {#name, get_ns, set_ns, NULL, (void *)offsetof(core, name)}
static PyGetSetDef core_times[] = {
    NS(atime_ns), NS(mtime_ns), NS(ctime_ns), NS(crtime_ns), {NULL, NULL, NULL, NULL, NULL}};

static void core_dealloc(PyObject *self) {
    Py_CLEAR(((core *)self)->raw);
    Py_TYPE(self)->tp_free(self);
}

static PyTypeObject core_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "wofs.xfs._decode.Core",
    .tp_basicsize = sizeof(core),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .tp_doc = "The fields of a decoded inode.",
    .tp_new = PyType_GenericNew,
    .tp_dealloc = core_dealloc,
    .tp_members = core_members,
    .tp_getset = core_times,
};

/* ---- inodes */

typedef struct {
    PyTypeObject *type; /* of the inodes to make: a subclass of Core */
    Py_ssize_t isize;
    const unsigned char *uuid;
    uint64_t bad_flags2; /* whose features are off */
    PyObject *crc32c;
} shape;

static uint64_t legacy_ns(uint64_t stamp) {
    int64_t seconds = (int32_t)(stamp >> 32);
    return (uint64_t)seconds * NS_PER_S + (stamp & 0xFFFFFFFF);
}

static void fill(core *to, const unsigned char *p, uint64_t ino) {
    uint64_t flags2 = be64(p + 120);
    to->ino = ino;
    to->mode = be16(p + 2);
    to->format = p[5];
    to->uid = be32(p + 8);
    to->gid = be32(p + 12);
    to->nlink = be32(p + 16);
    to->projid = (unsigned int)be16(p + 22) << 16 | be16(p + 20);
    to->size = be64(p + 56);
    to->nblocks = be64(p + 64);
    to->nextents = flags2 & FLAG2_NREXT64 ? be64(p + 24) : be32(p + 76);
    to->anextents = 0;
    to->forkoff = p[82] * 8U;
    to->aformat = p[83];
    to->flags = be16(p + 90);
    to->gen = be32(p + 92);
    to->flags2 = flags2;
    to->rdev = 0;
    uint64_t stamps[] = {be64(p + 32), be64(p + 40), be64(p + 48), be64(p + 144)};
    uint64_t *ns[] = {&to->atime_ns, &to->mtime_ns, &to->ctime_ns, &to->crtime_ns};
    for (int i = 0; i < 4; i++)
        *ns[i] = flags2 & FLAG2_BIGTIME ? stamps[i] - BIGTIME_EPOCH_NS : legacy_ns(stamps[i]);
}

/* Whether an inode has the shape of nearly all, which breaks no rule of inode.py. */
static int is_common(const unsigned char *p, uint64_t ino, const shape *of) {
    uint64_t flags2 = be64(p + 120), size = be64(p + 56), nblocks = be64(p + 64);
    uint64_t wide = flags2 & FLAG2_NREXT64;
    uint64_t nextents = wide ? be64(p + 24) : be32(p + 76);
    uint64_t anextents = wide ? be32(p + 76) : be16(p + 80);
    uint64_t unused = wide ? be16(p + 80) : be64(p + 24);
    uint64_t literal = (uint64_t)of->isize - CORE_BYTES, forkoff = p[82] * 8U;
    uint64_t room = forkoff ? forkoff : literal;
    unsigned int kind = be16(p + 2) >> 12, format = p[5];
    if (be16(p) != 0x494E || p[4] != 3 || be64(p + 152) != ino || memcmp(p + 160, of->uuid, 16))
        return 0;
    if (unused || anextents || nextents > nblocks || size >> 63 || nblocks >> BLOCKS_BITS)
        return 0;
    if (flags2 & (of->bad_flags2 | FLAG2_REFLINK) || p[83] != FMT_EXTENTS || forkoff >= literal)
        return 0;
    if (format == FMT_EXTENTS)
        return kind == REG && nextents <= room / 16;
    return format == FMT_LOCAL && (kind == DIR || kind == LNK) && size && size <= room && !nextents;
}

/* The inode at `p`: a new object, or NULL with an exception, or NULL without one: declined. */
static PyObject *decode(const unsigned char *p, uint64_t ino, const shape *of) {
    if (!is_common(p, ino, of))
        return NULL;
    PyObject *raw = PyBytes_FromStringAndSize((const char *)p, of->isize);
    if (!raw)
        return NULL;
    memset(PyBytes_AS_STRING(raw) + CRC_AT, 0, 4);
    PyObject *sum = PyObject_CallOneArg(of->crc32c, raw);
    uint64_t computed = sum ? PyLong_AsUnsignedLongLong(sum) : 0;
    Py_XDECREF(sum);
    uint32_t stored = (uint32_t)p[CRC_AT] | (uint32_t)p[CRC_AT + 1] << 8
                      | (uint32_t)p[CRC_AT + 2] << 16 | (uint32_t)p[CRC_AT + 3] << 24;
    PyObject *made = NULL;
    if (!PyErr_Occurred() && computed == stored)
        made = of->type->tp_alloc(of->type, 0);
    if (!made) {
        Py_DECREF(raw);
        return NULL;
    }
    fill((core *)made, p, ino);
    ((core *)made)->raw = raw;
    return made;
}

/* The chunk of the inode btree that the inodes before lay in. */
typedef struct {
    PyObject *find; /* ino -> (first inode, mask of those not in use) */
    uint64_t first, unused;
    int known;
} chunk;

/* Whether the inode btree says that `ino` is in use; -1 with an exception. */
static int in_use(chunk *at, uint64_t ino) {
    if (!at->known || ino < at->first || ino - at->first >= CHUNK_INODES) {
        PyObject *number = PyLong_FromUnsignedLongLong(ino);
        PyObject *found = number ? PyObject_CallOneArg(at->find, number) : NULL;
        Py_XDECREF(number);
        unsigned long long first = 0, unused = 0;
        int parsed = found && PyArg_ParseTuple(found, "KK", &first, &unused);
        Py_XDECREF(found);
        if (!parsed)
            return -1;
        at->first = first, at->unused = unused, at->known = 1;
    }
    uint64_t bit = ino - at->first;
    return bit < CHUNK_INODES && !(at->unused >> bit & 1);
}

/* Append (ino, inode) to `sound`, or `place` to `declined`. Takes over the inode. */
static int sort(PyObject *inode, PyObject *ino, PyObject *place, PyObject *sound, PyObject *declined) {
    if (!inode)
        return PyList_Append(declined, place);
    PyObject *pair = PyTuple_Pack(2, ino, inode);
    int failed = pair ? PyList_Append(sound, pair) : -1;
    Py_XDECREF(pair);
    Py_DECREF(inode);
    return failed;
}

static int decode_place(
    PyObject *place, const Py_buffer *data, uint64_t start, const shape *of, chunk *at,
    PyObject *sound, PyObject *declined
) {
    if (!PyTuple_Check(place) || PyTuple_GET_SIZE(place) != 2) {
        PyErr_SetString(PyExc_TypeError, "a place is (byte, ino)");
        return -1;
    }
    uint64_t byte = PyLong_AsUnsignedLongLong(PyTuple_GET_ITEM(place, 0));
    uint64_t ino = PyLong_AsUnsignedLongLong(PyTuple_GET_ITEM(place, 1));
    if (PyErr_Occurred())
        return -1;
    PyObject *inode = NULL;
    uint64_t skip = byte - start, length = (uint64_t)data->len;
    if (byte >= start && skip <= length && length - skip >= (uint64_t)of->isize) {
        inode = decode((const unsigned char *)data->buf + skip, ino, of);
        int used = inode ? in_use(at, ino) : 0;
        if (!used)
            Py_CLEAR(inode);
        if (PyErr_Occurred()) {
            Py_XDECREF(inode);
            return -1;
        }
    }
    return sort(inode, PyTuple_GET_ITEM(place, 1), place, sound, declined);
}

PyDoc_STRVAR(inodes_doc,
"inodes(type, run, data, isize, uuid, bad_flags2, crc32c, chunk, sound) -> declined\n\n"
"Decode the inodes at the (byte, ino) places of a run, whose bytes from the first place on are\n"
"`data`. Append (ino, inode) to `sound`; return the places that were declined.");

static PyObject *inodes(PyObject *Py_UNUSED(module), PyObject *args) {
    PyObject *type, *run, *sound, *declined = NULL;
    Py_buffer data, uuid;
    unsigned long long bad_flags2;
    shape of = {0};
    chunk at = {0};
    if (!PyArg_ParseTuple(
            args, "O!O!y*ny*KOOO!", &PyType_Type, &type, &PyList_Type, &run, &data, &of.isize, &uuid,
            &bad_flags2, &of.crc32c, &at.find, &PyList_Type, &sound))
        return NULL;
    of.type = (PyTypeObject *)type;
    of.uuid = uuid.buf;
    of.bad_flags2 = bad_flags2;
    if (uuid.len != 16 || of.isize <= CORE_BYTES || !PyType_IsSubtype(of.type, &core_type)) {
        PyErr_SetString(PyExc_ValueError, "no such inodes");
        goto out;
    }
    declined = PyList_New(0);
    uint64_t start = 0;
    for (Py_ssize_t i = 0; declined && i < PyList_GET_SIZE(run); i++) {
        PyObject *place = PyList_GET_ITEM(run, i);
        if (!i && PyTuple_Check(place) && PyTuple_GET_SIZE(place))
            start = PyLong_AsUnsignedLongLongMask(PyTuple_GET_ITEM(place, 0));
        if (PyErr_Occurred() || decode_place(place, &data, start, &of, &at, sound, declined) < 0)
            Py_CLEAR(declined);
    }
out:
    PyBuffer_Release(&data);
    PyBuffer_Release(&uuid);
    return declined;
}

/* ---- entries held against their inodes */

/* Whether nothing is to be said about an entry that leads to `inode`, and it is no directory. */
static int is_plain(PyObject *entry, const core *inode, const Py_buffer *modes) {
    if (!PyTuple_Check(entry) || PyTuple_GET_SIZE(entry) != 4)
        return 0;
    unsigned long ftype = PyLong_AsUnsignedLong(PyTuple_GET_ITEM(entry, 2));
    unsigned int kind = inode->mode >> 12;
    if (PyErr_Occurred() || ftype >= (unsigned long)modes->len || kind == DIR || !inode->nlink)
        return 0;
    return ((const unsigned char *)modes->buf)[ftype] == kind;
}

PyDoc_STRVAR(remarkable_doc,
"remarkable(entries, inodes, modes) -> list\n\n"
"Return the indexes of the entries that are to be looked at: they lead to a directory, to an\n"
"inode of another type than `modes` (by file type, a byte each) has, or to one without links.\n"
"Where the inode is none but an error, there is nothing to look at.");

static PyObject *remarkable(PyObject *Py_UNUSED(module), PyObject *args) {
    PyObject *entries, *inodes_;
    Py_buffer modes;
    if (!PyArg_ParseTuple(args, "O!O!y*", &PyList_Type, &entries, &PyList_Type, &inodes_, &modes))
        return NULL;
    PyObject *out = PyList_New(0);
    if (PyList_GET_SIZE(entries) != PyList_GET_SIZE(inodes_)) {
        PyErr_SetString(PyExc_ValueError, "an inode for each entry");
        Py_CLEAR(out);
    }
    for (Py_ssize_t i = 0; out && i < PyList_GET_SIZE(entries); i++) {
        PyObject *inode = PyList_GET_ITEM(inodes_, i);
        if (!PyObject_TypeCheck(inode, &core_type)
            || is_plain(PyList_GET_ITEM(entries, i), (core *)inode, &modes))
            continue;
        PyObject *index = PyErr_Occurred() ? NULL : PyLong_FromSsize_t(i);
        if (!index || PyList_Append(out, index) < 0)
            Py_CLEAR(out);
        Py_XDECREF(index);
    }
    PyBuffer_Release(&modes);
    return out;
}

PyDoc_STRVAR(kept_doc,
"kept(type, raws) -> [inode or None]\n\n"
"Decode again the raw bytes of inodes that were proved before; None stays None.\n"
"Nothing is proved here.");

static PyObject *kept_one(PyTypeObject *type, PyObject *raw) {
    if (!PyBytes_Check(raw) || PyBytes_GET_SIZE(raw) <= CORE_BYTES + 4) {
        PyErr_SetString(PyExc_ValueError, "no such inode");
        return NULL;
    }
    const unsigned char *p = (const unsigned char *)PyBytes_AS_STRING(raw);
    core *made = (core *)type->tp_alloc(type, 0);
    if (!made)
        return NULL;
    fill(made, p, be64(p + 152));
    uint64_t wide = made->flags2 & FLAG2_NREXT64;
    made->anextents = wide ? be32(p + 76) : be16(p + 80);
    unsigned int kind = made->mode >> 12, device = be32(p + CORE_BYTES);
    if (kind == CHR || kind == BLK)
        made->rdev = makedev(device >> 18 & 0x3FFF, device & 0x3FFFF);
    made->raw = Py_NewRef(raw);
    return (PyObject *)made;
}

static PyObject *kept(PyObject *Py_UNUSED(module), PyObject *args) {
    PyObject *type, *raws;
    if (!PyArg_ParseTuple(args, "O!O!", &PyType_Type, &type, &PyList_Type, &raws))
        return NULL;
    if (!PyType_IsSubtype((PyTypeObject *)type, &core_type)) {
        PyErr_SetString(PyExc_ValueError, "no type of inodes");
        return NULL;
    }
    PyObject *out = PyList_New(PyList_GET_SIZE(raws));
    if (!out)
        return NULL;
    for (Py_ssize_t at = 0; at < PyList_GET_SIZE(out); at++) {
        /* Making an object may run what shortens the list. */
        PyObject *raw = at < PyList_GET_SIZE(raws) ? Py_NewRef(PyList_GET_ITEM(raws, at)) : NULL;
        PyObject *one = raw == Py_None ? Py_NewRef(raw)
                        : raw ? kept_one((PyTypeObject *)type, raw) : NULL;
        if (!raw)
            PyErr_SetString(PyExc_RuntimeError, "the list was changed meanwhile");
        Py_XDECREF(raw);
        if (!one) {
            Py_DECREF(out);
            return NULL;
        }
        PyList_SET_ITEM(out, at, one);
    }
    return out;
}

static PyMethodDef functions[] = {
    {"kept", kept, METH_VARARGS, kept_doc},
    {"inodes", inodes, METH_VARARGS, inodes_doc},
    {"remarkable", remarkable, METH_VARARGS, remarkable_doc},
    {NULL, NULL, 0, NULL},
};

static int fill_module(PyObject *made) {
    if (PyType_Ready(&core_type) < 0)
        return -1;
    if (PyModule_AddFunctions(made, name_functions) < 0)
        return -1;
    return PyModule_AddObjectRef(made, "Core", (PyObject *)&core_type);
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
    PyModuleDef_HEAD_INIT, .m_name = "_decode", .m_methods = functions, .m_slots = slots};

PyMODINIT_FUNC PyInit__decode(void) {
    return PyModuleDef_Init(&module);
}
