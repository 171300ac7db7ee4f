/* What report.c offers and needs beyond slab.h. */
#ifndef WOFS_SLAB_REPORT_H
#define WOFS_SLAB_REPORT_H

#include "slab.h"
#include "text.h"

/* Install the handler, or put it back before whatever took its place. */
int slab_report_install(void);
/* Append reports to a file too; returns its descriptor, or -1 with errno set. */
int slab_report_to(const char *path);

/* End the process as loudly as a stray write does if an object is not what was published. */
void slab_report_enforce(slab_arena *arena);

/* stack.c: signal-safe once prepared. */
void slab_stack_prepare(void);
void slab_stack_dump(slab_text *out, uintptr_t from);
/* Returns -1 where this Python has no dump of its own, or the thread no Python. */
int slab_python_dump(const int *fds, size_t count);

#endif
