/* Text put together and written by signal-safe calls only. */
#ifndef WOFS_SLAB_TEXT_H
#define WOFS_SLAB_TEXT_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    char text[512];
    size_t length;
    int fds[2];  /* where it goes; -1: nowhere */
    int json_fd; /* where it goes too, as the inside of a JSON string; -1: nowhere */
} slab_text;

void slab_put(slab_text *out, const char *text);
void slab_put_number(slab_text *out, uint64_t value);
void slab_put_hex(slab_text *out, uint64_t value);
/* As the inside of a JSON string; what is no ASCII goes as it is. */
void slab_put_escaped(slab_text *out, const char *text, size_t length);
void slab_put_byte(slab_text *out, unsigned char value); /* two digits */
/* Write what was put and start over. */
void slab_flush(slab_text *out);

#endif
