/* What the files of the bulk decoder share. */
#ifndef WOFS_DECODE_H
#define WOFS_DECODE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

static inline uint16_t be16(const unsigned char *p) {
    return (uint16_t)(p[0] << 8 | p[1]);
}

static inline uint32_t be32(const unsigned char *p) {
    return (uint32_t)be16(p) << 16 | be16(p + 2);
}

static inline uint64_t be64(const unsigned char *p) {
    return (uint64_t)be32(p) << 32 | be32(p + 4);
}

extern PyMethodDef name_functions[]; /* _names.c: inode numbers and directory entries */

#endif
