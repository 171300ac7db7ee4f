/* What the Python-facing files share. */
#ifndef WOFS_SLAB_PYTHON_H
#define WOFS_SLAB_PYTHON_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "slab.h"

/* handle.c: a handle names an object; it can be destroyed, not made to lie. */
typedef struct {
    PyObject_HEAD
    uint32_t arena;  /* slot in the registry */
    uint64_t uid;    /* of the arena */
    uint64_t offset; /* of the object's header in the view */
    uint64_t serial;
    uint64_t tag; /* keyed, over all of the above and the handle's own address */
} slab_handle;

int slab_is_handle(PyObject *object);
PyObject *slab_handle_type(size_t layout_id, const char *name);
int slab_is_type_of(const PyTypeObject *type, size_t layout_id);
PyObject *slab_handle_new(PyTypeObject *type, const slab_arena *arena, slab_place place);
/* The field of the objects of a type of handles, NULL for none. */
const slab_field *slab_field_called(const PyTypeObject *type, PyObject *name);
/* The object behind a handle, its header before it; NULL with StaleHandle raised. */
const unsigned char *slab_handle_object(PyObject *self, const slab_layout **layout);

/* pack.c: put a value where its field lies in an object; -1 with OverflowError, TypeError or what
 * the value itself raised. What holds the value may change meanwhile. */
int slab_pack_value(const slab_field *field, PyObject *value, unsigned char *object);

/* module.c */
PyObject *slab_raise(slab_status status);
void slab_refuse(const char *format, ...); /* raise SlabError; as for PyErr_Format() */
int slab_find_errors(void);
/* For "O&": whole numbers that fit, where "I" and "K" would cut one down. */
int slab_u32(PyObject *number, void *to);
int slab_u64(PyObject *number, void *to);
/* The arena that owns an entry of the registry, NULL once closed (arena_type.c). */
slab_arena *slab_arena_of(uint32_t slot, uint64_t uid);
/* The Python object around an arena that slab_arena_of() returned, and back. */
PyObject *slab_owner_of(slab_arena *arena);
slab_arena *slab_arena_in(PyObject *owner);

/* fill.c: a callable (name, **values) -> handle */
PyObject *slab_filler_new(PyObject *arena, uint32_t cache, const slab_layout *layout,
                          PyTypeObject *type);

extern PyTypeObject slab_arena_type, slab_filler_type, slab_store_type, slab_batch_type;
PyObject *slab_py_layout(PyObject *module, PyObject *args);
PyObject *slab_py_pack(PyObject *module, PyObject *args);

/* stray.c */
extern PyMethodDef slab_stray_methods[];

#endif
