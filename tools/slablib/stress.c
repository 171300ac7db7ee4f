/* The slab's core under threads, without Python: lives of objects against a model.
 *
 *     stress SEED THREADS STEPS BACKEND
 *
 * Each step is an arena, then a store. As in the extension one lock guards all that changes an arena. Published objects are read
 * without it, by every thread, also those of others: that is what write-once memory promises.
 * Ends with 0 and a line of counts, with 1 and the step at the first difference.
 */
#define _GNU_SOURCE
#include "arena.h"
#include "batch.h"
#include "slab.h"

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST 256
#define SHOWN 64

typedef struct {
    slab_place place;
    unsigned char fill;
    uint32_t cache;
} life;

/* What a thread shows to the others: an object that stays for as long as its turn lasts. */
typedef struct {
    const unsigned char *at; /* its header */
    uint64_t serial;
    uint32_t size;
    unsigned char fill;
} shown;

typedef struct {
    unsigned number;
    uint64_t random;
    unsigned long inits, frees, batches, reads, foreign, arenas, kept;
} worker;

#ifndef STRESS_WITHOUT_LOCK
static pthread_mutex_t interpreter = PTHREAD_MUTEX_INITIALIZER;
#endif
static pthread_barrier_t turn;
static const slab_layout *layouts[2];
static const char *backend;
static unsigned threads;
static long steps;
static shown (*shelf)[SHOWN];

static void lock(void) {
#ifndef STRESS_WITHOUT_LOCK /* the control: then ThreadSanitizer must complain */
    pthread_mutex_lock(&interpreter);
#endif
}

static void unlock(void) {
#ifndef STRESS_WITHOUT_LOCK
    pthread_mutex_unlock(&interpreter);
#endif
}

static uint64_t pick(worker *self, uint64_t below) {
    self->random = self->random * 6364136223846793005ULL + 1442695040888963407ULL;
    return (self->random >> 33) % below;
}

static void must(int good, const char *what, const worker *self) {
    if (good)
        return;
    fprintf(stderr, "stress: thread %u: %s\n", self->number, what);
    exit(1);
}

static const slab_layout *publish(const char *name, uint32_t size) {
    const void *at;
    size_t id, bytes = sizeof(slab_layout) + sizeof(slab_field);
    slab_layout *layout = calloc(1, bytes);
    if (!layout)
        abort();
    strcpy(layout->name, name);
    layout->size = size;
    layout->nfields = 1;
    layout->fields[0] = (slab_field){.name = "data", .count = size, .item = 1, .end = size, .code = 's'};
    if (slab_registry_open() != SLAB_OK || slab_layout_publish(layout, bytes, &id) != SLAB_OK)
        abort();
    free(layout);
    at = slab_layout_at(id);
    return at;
}

/* Read an object that is published: no lock. */
static void check(const worker *self, const unsigned char *at, uint64_t serial, uint32_t size,
                  unsigned char fill) {
    slab_header head;
    memcpy(&head, at, sizeof head);
    must(head.serial == serial && head.size == size, "a header changed", self);
    for (uint32_t i = 0; i < size; i++)
        must(at[sizeof head + i] == fill, "an object changed", self);
}

static void look_at_others(worker *self) {
    for (unsigned other = 0; other < threads; other++)
        for (size_t i = 0; i < SHOWN; i++) {
            const shown *one = &shelf[other][i];
            if (one->at) {
                check(self, one->at, one->serial, one->size, one->fill);
                self->foreign += other != self->number;
            }
        }
}

static size_t init_one(worker *self, slab_arena *arena, life *alive, size_t count) {
    unsigned char data[512];
    life *made = &alive[count];
    char name[16];
    made->cache = (uint32_t)pick(self, 2);
    made->fill = (unsigned char)pick(self, 256);
    memset(data, made->fill, sizeof data);
    snprintf(name, sizeof name, "o%u", (unsigned)pick(self, 9));
    slab_status status = slab_arena_init(arena, made->cache, name, data, &made->place);
    must(status == SLAB_OK || status == SLAB_FULL, "init_once failed", self);
    self->inits += status == SLAB_OK;
    return count + (status == SLAB_OK);
}

static size_t init_some(worker *self, slab_arena *arena, life *alive, size_t count) {
    size_t number = pick(self, 40), size = layouts[0]->size;
    unsigned char *data = malloc(number * size + 1);
    slab_place first;
    if (!data || count + number > MOST) {
        free(data);
        return count;
    }
    for (size_t i = 0; i < number; i++)
        memset(data + i * size, (int)i, size);
    slab_status status = slab_arena_batch(arena, 0, "b", number, data, &first);
    free(data);
    must(status == SLAB_OK || status == SLAB_FULL, "init_batch failed", self);
    if (status == SLAB_FULL)
        return count;
    size_t per_run = arena->caches[0].per_run, stride = arena->caches[0].stride;
    for (size_t i = 0; i < number; i++) {
        size_t run = i / per_run * slab_run_bytes(&arena->caches[0]);
        size_t offset = first.offset + run + i % per_run * stride;
        alive[count++] = (life){{offset, first.serial + i}, (unsigned char)i, 0};
    }
    self->batches++;
    return count;
}

static size_t free_one(worker *self, slab_arena *arena, life *alive, size_t count) {
    size_t at = pick(self, count);
    life gone = alive[at];
    must(slab_arena_free(arena, gone.place) == SLAB_OK, "free failed", self);
    must(slab_arena_free(arena, gone.place) == SLAB_STALE, "a second free went through", self);
    alive[at] = alive[count - 1];
    self->frees++;
    return count - 1;
}

static size_t change(worker *self, slab_arena *arena, life *alive, size_t count) {
    uint64_t what = pick(self, 20);
    if (what < 9 && count < MOST)
        return init_one(self, arena, alive, count);
    if (what < 10)
        return init_some(self, arena, alive, count);
    return count ? free_one(self, arena, alive, count) : 0;
}

/* Everything that is there is as it was made, by its own bytes, by verify, by its name. */
static void check_all(worker *self, slab_arena *arena, const life *alive, size_t count) {
    slab_site site;
    for (size_t i = 0; i < count; i++) {
        const unsigned char *at = arena->region.view + alive[i].place.offset;
        check(self, at, alive[i].place.serial, layouts[alive[i].cache]->size, alive[i].fill);
        self->reads++;
    }
    lock();
    must(slab_arena_verify(arena, NULL, NULL) == 0, "verify found a change", self);
    for (size_t i = 0; i < count; i++) {
        slab_site_at(&slab_registry_view()->arenas[arena->slot],
                     alive[i].place.offset + sizeof(slab_header), &site);
        must(site.field && strcmp(site.cache, layouts[alive[i].cache]->name) == 0,
             "an object is named wrong", self);
    }
    unlock();
}

/* Show some objects, let all read them while others publish, take them back. */
static void show(worker *self, const slab_arena *arena, const life *alive, size_t count) {
    memset(shelf[self->number], 0, sizeof shelf[self->number]);
    for (size_t i = 0; i < SHOWN && i < count / 2; i++)
        shelf[self->number][i] =
            (shown){arena->region.view + alive[i].place.offset, alive[i].place.serial,
                    layouts[alive[i].cache]->size, alive[i].fill};
    pthread_barrier_wait(&turn);
}

static void one_arena(worker *self) {
    slab_arena arena;
    life alive[MOST];
    size_t count = 0;
    uint32_t cache;
    lock();
    must(slab_arena_open(&arena, 24, backend, "object") == SLAB_OK, "no arena", self);
    for (size_t i = 0; i < 2; i++)
        must(slab_arena_cache(&arena, layouts[i], &cache) == SLAB_OK, "no cache", self);
    unlock();
    for (long step = 0; step < 200; step++) {
        lock();
        count = change(self, &arena, alive, count);
        unlock();
    }
    check_all(self, &arena, alive, count);
    show(self, &arena, alive, count);
    /* Neighbours in the very pages that others read now. */
    for (size_t i = 0; i < 20 && count < MOST; i++) {
        lock();
        count = init_one(self, &arena, alive, count);
        unlock();
        look_at_others(self);
    }
    pthread_barrier_wait(&turn);
    check_all(self, &arena, alive, count);
    lock();
    if (pick(self, 2))
        must(slab_arena_finish(&arena, 0) == SLAB_OK, "finish failed", self);
    slab_arena_close(&arena);
    unlock();
    self->arenas++;
}

/* ---- stores: objects of a batch each, by number; slots that are given back serve again */
#define BATCHES 3
#define ROWS 30

typedef struct {
    slab_batch batch;
    size_t count; /* of objects, with the batch's own number and theirs as key */
    uint64_t places[ROWS];
    uint32_t sizes[ROWS];
} kept;

static void fill_batch(worker *self, slab_store *store, kept *made, uint64_t number) {
    unsigned char data[600];
    slab_row rows[ROWS];
    memset(data, (int)number, sizeof data);
    must(slab_batch_open(store, &made->batch, pick(self, 6000)) == SLAB_OK, "no batch", self);
    for (size_t i = 0; i < ROWS; i++) {
        made->sizes[i] = (uint32_t)pick(self, sizeof data);
        rows[i] = (slab_row){number, i, data, made->sizes[i]};
    }
    must(slab_batch_put(&made->batch, 1, rows, ROWS, made->places, &made->count) == SLAB_OK,
         "put failed", self);
    if (pick(self, 2))
        must(slab_batch_seal(&made->batch) == SLAB_OK, "seal failed", self);
    self->kept += made->count;
}

static void check_batch(worker *self, const slab_store *store, const kept *made, uint64_t number) {
    for (size_t i = 0; i < made->count; i++) {
        const slab_kept *head = slab_store_find(store, made->places[i], 1, number, i);
        must(head && head->size == made->sizes[i], "an object is not found", self);
        for (uint32_t at = 0; at < head->size; at++)
            must(((const unsigned char *)(head + 1))[at] == (unsigned char)number,
                 "a kept object changed", self);
        must(!slab_store_find(store, made->places[i], 1, number, i + 1), "found by another key",
             self);
    }
}

static void one_store(worker *self) {
    static const slab_kinds names = {.count = 2, .names = {"first", "second"}};
    slab_kinds kinds = names;
    slab_store store;
    kept made[BATCHES];
    lock();
    must(slab_store_open(&store, 8, slab_page(), backend, "kept", &kinds) == SLAB_OK, "no store",
         self);
    for (uint64_t number = 0; number < BATCHES; number++)
        fill_batch(self, &store, &made[number], number);
    unlock();
    for (uint64_t turn_of = BATCHES; turn_of < 20; turn_of++) {
        kept *oldest = &made[turn_of % BATCHES];
        lock();
        check_batch(self, &store, oldest, turn_of - BATCHES);
        must(slab_store_verify(&store, NULL, NULL) == 0, "verify of a store found a change", self);
        slab_batch_close(&oldest->batch);
        fill_batch(self, &store, oldest, turn_of);
        unlock();
    }
    lock();
    must(slab_store_in_use(&store), "a store with batches is not in use", self);
    for (size_t i = 0; i < BATCHES; i++)
        slab_batch_close(&made[i].batch);
    must(!slab_store_in_use(&store), "a store without batches is in use", self);
    slab_store_close(&store);
    unlock();
}

static void *work(void *arg) {
    for (long step = 0; step < steps; step++) {
        one_arena(arg);
        one_store(arg);
    }
    return NULL;
}

int main(int argc, char **argv) {
    if (argc != 5)
        return 2;
    uint64_t seed = strtoull(argv[1], NULL, 10);
    threads = (unsigned)strtoul(argv[2], NULL, 10);
    steps = strtol(argv[3], NULL, 10);
    backend = argv[4];
    layouts[0] = publish("small", 24);
    layouts[1] = publish("large", 400);
    worker *workers = calloc(threads, sizeof *workers);
    pthread_t *ids = calloc(threads, sizeof *ids);
    shelf = calloc(threads, sizeof *shelf);
    if (!workers || !ids || !shelf || pthread_barrier_init(&turn, NULL, threads))
        return 2;
    for (unsigned i = 0; i < threads; i++) {
        workers[i] = (worker){.number = i, .random = seed * 1000 + i};
        if (pthread_create(&ids[i], NULL, work, &workers[i]))
            return 2;
    }
    worker sum = {.number = 0};
    for (unsigned i = 0; i < threads; i++) {
        pthread_join(ids[i], NULL);
        sum.inits += workers[i].inits, sum.frees += workers[i].frees;
        sum.batches += workers[i].batches, sum.reads += workers[i].reads;
        sum.foreign += workers[i].foreign, sum.arenas += workers[i].arenas;
        sum.kept += workers[i].kept;
    }
    printf("page %zu: %lu arenas, %lu inits, %lu batches, %lu frees, %lu reads, "
           "%lu of others' objects, %lu kept in stores\n",
           slab_page(), sum.arenas, sum.inits, sum.batches, sum.frees, sum.reads, sum.foreign,
           sum.kept);
    pthread_barrier_destroy(&turn);
    free(workers), free(ids), free(shelf);
    return 0;
}
