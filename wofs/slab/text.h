/* Text put together and written by signal-safe calls only. */
#ifndef WOFS_SLAB_TEXT_H
#define WOFS_SLAB_TEXT_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    char text[512];
    size_t length;
    int fds[2]; /* where it goes; -1: nowhere */
} slab_text;

void slab_put(slab_text *out, const char *text);
void slab_put_number(slab_text *out, uint64_t value);
void slab_put_hex(slab_text *out, uint64_t value);
void slab_put_byte(slab_text *out, unsigned char value); /* two digits */
/* Write what was put and start over. */
void slab_flush(slab_text *out);

#endif
