/* Inodes and directory entries decoded in bulk: the hottest loops of a listing.
 *
 * Only what is sound and of the common shape is decoded here. Everything else is declined, and the
 * Python beside it (inode.py, dir/parse.py) decides: there the rules are, with their names. So a
 * mistake here may cost time, or must show where the tests compare both on the same bytes.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stddef.h>
#include <stdint.h>
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
    DATA_HEADER_BYTES = 64, /* ondisk/dir.py */
    MOST_FTYPE = 8,
};

#define NS_PER_S 1000000000ULL
#define BIGTIME_EPOCH_NS ((1ULL << 31) * NS_PER_S)

static uint16_t be16(const unsigned char *p) {
    return (uint16_t)(p[0] << 8 | p[1]);
}

static uint32_t be32(const unsigned char *p) {
    return (uint32_t)be16(p) << 16 | be16(p + 2);
}

static uint64_t be64(const unsigned char *p) {
    return (uint64_t)be32(p) << 32 | be32(p + 4);
}

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
    unsigned long long byte, ino;
    if (!PyTuple_Check(place) || !PyArg_ParseTuple(place, "KK", &byte, &ino))
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

/* ---- directory entries */

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

PyDoc_STRVAR(kept_doc,
"kept(type, raw) -> inode\n\n"
"Decode again the raw bytes of an inode that was proved before. Nothing is proved here.");

static PyObject *kept(PyObject *Py_UNUSED(module), PyObject *args) {
    PyObject *type, *raw;
    if (!PyArg_ParseTuple(args, "O!S", &PyType_Type, &type, &raw))
        return NULL;
    const unsigned char *p = (const unsigned char *)PyBytes_AS_STRING(raw);
    PyTypeObject *made_type = (PyTypeObject *)type;
    if (PyBytes_GET_SIZE(raw) <= CORE_BYTES + 4 || !PyType_IsSubtype(made_type, &core_type)) {
        PyErr_SetString(PyExc_ValueError, "no such inode");
        return NULL;
    }
    core *made = (core *)made_type->tp_alloc(made_type, 0);
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

static PyMethodDef functions[] = {
    {"kept", kept, METH_VARARGS, kept_doc},
    {"inodes", inodes, METH_VARARGS, inodes_doc},
    {"data_entries", data_entries, METH_VARARGS, data_entries_doc},
    {"sf_entries", sf_entries, METH_VARARGS, sf_entries_doc},
    {NULL, NULL, 0, NULL},
};

static int fill_module(PyObject *made) {
    if (PyType_Ready(&core_type) < 0)
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
