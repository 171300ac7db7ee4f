/* The stacks of a crash report: C frames with their module and symbol, Python frames.
 *
 * Signal-safe: the unwinder finds its tables without a lock (glibc >= 2.35), symbols are looked
 * up in the loaded objects' own tables, nothing allocates. Both are used once beforehand
 * (`slab_stack_prepare`), so that nothing is loaded when memory can no longer be trusted.
 */
#define _GNU_SOURCE
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "report.h"

#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <features.h>
#include <link.h>
#include <string.h>
#include <unistd.h>
#include <unwind.h>

#define MOST_FRAMES 48
#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 35)
#define HAVE_FIND_OBJECT 1
#endif

typedef struct {
    slab_text *out;
    uintptr_t from; /* the code that faulted: frames before it are the handler's own */
    int started;
    unsigned printed;
} walk;

#ifdef HAVE_FIND_OBJECT
typedef struct {
    const ElfW(Sym) * symbols;
    const char *strings;
    size_t count;
} symbol_table;

/* How many symbols a GNU hash table covers: the end of its last chain. */
static size_t gnu_count(const uint32_t *hash) {
    uint32_t buckets = hash[0], offset = hash[1], bloom = hash[2], last = 0;
    const uint32_t *bucket = hash + 4 + bloom * (sizeof(ElfW(Addr)) / 4);
    const uint32_t *chain = bucket + buckets;
    for (uint32_t i = 0; i < buckets; i++)
        if (bucket[i] > last)
            last = bucket[i];
    if (last < offset)
        return 0;
    while (!(chain[last - offset] & 1))
        last++;
    return last + 1;
}

static symbol_table symbols_of(const struct link_map *map) {
    symbol_table table = {NULL, NULL, 0};
    const uint32_t *hash = NULL;
    for (const ElfW(Dyn) *dyn = map->l_ld; dyn && dyn->d_tag != DT_NULL; dyn++) {
        if (dyn->d_tag == DT_SYMTAB)
            table.symbols = (const ElfW(Sym) *)dyn->d_un.d_ptr;
        else if (dyn->d_tag == DT_STRTAB)
            table.strings = (const char *)dyn->d_un.d_ptr;
        else if (dyn->d_tag == DT_GNU_HASH)
            hash = (const uint32_t *)dyn->d_un.d_ptr;
    }
    /* The vDSO's entries are not relocated; it holds nothing that writes to us. */
    if (!hash || (uintptr_t)hash < map->l_addr)
        return table;
    table.count = gnu_count(hash);
    return table;
}

static void put_symbol(slab_text *out, const struct link_map *map, uintptr_t code) {
    symbol_table table = symbols_of(map);
    uintptr_t at = code - map->l_addr;
    for (size_t i = 0; table.symbols && table.strings && i < table.count; i++) {
        const ElfW(Sym) *symbol = &table.symbols[i];
        if (symbol->st_shndx == SHN_UNDEF || at < symbol->st_value ||
            at - symbol->st_value >= symbol->st_size)
            continue;
        slab_put(out, " ");
        slab_put(out, table.strings + symbol->st_name);
        slab_put(out, "+");
        slab_put_hex(out, at - symbol->st_value);
        return;
    }
}

static void put_place(slab_text *out, uintptr_t code) {
    struct dl_find_object found;
    if (_dl_find_object((void *)code, &found) != 0)
        return;
    const struct link_map *map = found.dlfo_link_map;
    const char *name = map->l_name[0] ? map->l_name : "python";
    const char *slash = strrchr(name, '/');
    slab_put(out, " ");
    slab_put(out, slash ? slash + 1 : name);
    slab_put(out, "+");
    slab_put_hex(out, code - map->l_addr);
    put_symbol(out, map, code);
}
#else
static void put_place(slab_text *out, uintptr_t code) {
    (void)out;
    (void)code;
}
#endif

static _Unwind_Reason_Code on_frame(struct _Unwind_Context *context, void *arg) {
    walk *state = arg;
    uintptr_t code = _Unwind_GetIP(context);
    if (code == state->from)
        state->started = 1;
    if (!state->started || !code)
        return _URC_NO_REASON;
    if (state->out) {
        slab_put(state->out, "    #");
        slab_put_number(state->out, state->printed);
        slab_put(state->out, " ");
        slab_put_hex(state->out, code);
        put_place(state->out, code);
        slab_put(state->out, "\n");
        slab_flush(state->out);
    }
    return ++state->printed < MOST_FRAMES ? _URC_NO_REASON : _URC_END_OF_STACK;
}

void slab_stack_dump(slab_text *out, uintptr_t from) {
    walk state = {out, from, 0, 0};
    _Unwind_Backtrace(on_frame, &state);
    if (!state.printed) {
        slab_put(out, "    (could not be unwound)\n");
        slab_flush(out);
    }
}

/* CPython's own signal-safe dump: exported by 3.11 and 3.12; elsewhere faulthandler has it. */
typedef void (*dump_function)(int, PyThreadState *);
static dump_function python_dump;

void slab_stack_prepare(void) {
    walk state = {NULL, 0, 1, 0};
    _Unwind_Backtrace(on_frame, &state);
    void *found = dlsym(RTLD_DEFAULT, "_Py_DumpTraceback");
    memcpy(&python_dump, &found, sizeof found);
}

/* Through a pipe, which holds all of it, so that it goes wherever the report goes. */
int slab_python_dump(slab_text *out) {
    int ends[2];
    char part[256];
    ssize_t n;
    PyThreadState *state = PyGILState_GetThisThreadState();
    if (!python_dump || !state || pipe2(ends, O_NONBLOCK | O_CLOEXEC) < 0)
        return -1;
    python_dump(ends[1], state);
    close(ends[1]);
    while ((n = read(ends[0], part, sizeof part - 1)) > 0) {
        part[n] = 0;
        slab_put(out, part);
        slab_flush(out);
    }
    close(ends[0]);
    return 0;
}
