/* What report.c offers and needs beyond slab.h. */
#ifndef WOFS_SLAB_REPORT_H
#define WOFS_SLAB_REPORT_H

#include "batch.h"
#include "slab.h"
#include "text.h"

/* Install the handler, or put it back before whatever took its place. */
int slab_report_install(void);
/* Append reports to a file too; returns its descriptor, or -1 with errno set. */
int slab_report_to(const char *path);

/* report_json.c: what a report says, as one JSON object. */
typedef struct {
    const char *kind, *target, *access, *thread;
    uint64_t time, pid, tid;
    int signo, code; /* 0: no signal */
    uintptr_t address, instruction;
    const slab_entry *entry; /* NULL: no arena */
    const slab_site *site;   /* NULL: not within its memory */
} slab_facts;

/* A file that reports are appended to; -1 with errno set. */
int slab_open_report(const char *path);
/* Append to a file, or make one a crash in a folder; -1 with errno set. */
int slab_json_to(const char *path, int is_folder);
/* Write all but the text; returns where that goes, escaped, -1 for nowhere. */
int slab_json_start(const slab_facts *facts);
void slab_json_end(int fd);

/* End the process as loudly as a stray write does if an object is not what was published. */
void slab_report_enforce(slab_arena *arena);
void slab_report_enforce_store(slab_store *store);

/* stack.c: signal-safe once prepared. */
void slab_stack_prepare(void);
void slab_stack_dump(slab_text *out, uintptr_t from);
/* Returns -1 where this Python has no dump of its own, or the thread no Python. */
int slab_python_dump(slab_text *out);

#endif
