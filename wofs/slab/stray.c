/* Stray writes on purpose, for demonstrations and tests: what a bug would do, in C.
 *
 * None of these makes memory writable; each only stores to an address, as any code could.
 */
#define _GNU_SOURCE
#include "python.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>

static PyObject *stray_store(PyObject *Py_UNUSED(module), PyObject *args) {
    unsigned long long address;
    unsigned char value;
    if (!PyArg_ParseTuple(args, "KB", &address, &value))
        return NULL;
    *(volatile unsigned char *)(uintptr_t)address = value;
    Py_RETURN_NONE;
}

/* The ways in which compiled code writes: each must be told the same. */
static void write_as(const char *kind, void *at) {
    static const unsigned char bytes[16] = {0xa5};
    if (strcmp(kind, "atomic") == 0) {
        __atomic_fetch_add((uint32_t *)((uintptr_t)at & ~(uintptr_t)3), 1, __ATOMIC_SEQ_CST);
    } else if (strcmp(kind, "vector") == 0) {
        typedef uint32_t four __attribute__((vector_size(16), aligned(1)));
        *(volatile four *)at = (four){1, 2, 3, 4};
    } else if (strcmp(kind, "memmove") == 0) {
        memmove(at, bytes, sizeof bytes);
#if defined(__x86_64__)
    } else if (strcmp(kind, "string") == 0) {
        size_t count = sizeof bytes;
        __asm__ volatile("rep stosb" : "+D"(at), "+c"(count) : "a"(0xa5) : "memory");
#endif
    } else {
        *(volatile unsigned char *)at = 0xa5;
    }
}

/* stray_write(kind, address): "atomic", "vector", "memmove", "string" (x86-64) or a plain byte. */
static PyObject *stray_write(PyObject *Py_UNUSED(module), PyObject *args) {
    const char *kind;
    unsigned long long address;
    if (!PyArg_ParseTuple(args, "sK", &kind, &address))
        return NULL;
    write_as(kind, (void *)(uintptr_t)address);
    Py_RETURN_NONE;
}

/* An overrun: bytes from a buffer of the program on, until it is stopped. */
static PyObject *stray_overrun(PyObject *Py_UNUSED(module), PyObject *args) {
    unsigned long long address;
    Py_ssize_t count;
    if (!PyArg_ParseTuple(args, "Kn", &address, &count))
        return NULL;
    volatile unsigned char *at = (volatile unsigned char *)(uintptr_t)address;
    for (Py_ssize_t i = 0; i < count; i++)
        at[i] = 0x41;
    Py_RETURN_NONE;
}

/* ---- a thread that stores to one address over and over, whatever becomes of it */
static struct {
    pthread_t thread;
    int running;
    volatile int stop;
    volatile uint64_t *target;
    volatile uint64_t tried, landed;
    sigjmp_buf after_fault;
    struct sigaction before;
} hammer;

static __thread volatile int hammering;

/* The hammer's own fault is expected, and only that: all others go where they went before. */
static void on_hammer_fault(int signo, siginfo_t *info, void *context) {
    if (hammering)
        siglongjmp(hammer.after_fault, 1);
    if (hammer.before.sa_flags & SA_SIGINFO)
        hammer.before.sa_sigaction(signo, info, context);
}

static void expect_faults(struct sigaction *action) {
    memset(action, 0, sizeof *action);
    action->sa_sigaction = on_hammer_fault;
    action->sa_flags = SA_SIGINFO | SA_NODEFER;
    sigemptyset(&action->sa_mask);
}

static void *hammer_on(void *unused) {
    (void)unused;
    while (!hammer.stop) {
        hammer.tried++;
        if (sigsetjmp(hammer.after_fault, 0) == 0) {
            hammering = 1;
            *hammer.target = hammer.tried;
            hammer.landed++;
        }
        hammering = 0;
    }
    return NULL;
}

/* stray_hammer(address): start; the slab's report is off until stray_rest(). */
static PyObject *stray_hammer(PyObject *Py_UNUSED(module), PyObject *args) {
    unsigned long long address;
    struct sigaction action;
    if (!PyArg_ParseTuple(args, "K", &address))
        return NULL;
    if (hammer.running)
        return PyErr_Format(PyExc_RuntimeError, "a hammer is running");
    expect_faults(&action);
    hammer.stop = 0;
    hammer.tried = hammer.landed = 0;
    hammer.target = (volatile uint64_t *)(uintptr_t)address;
    if (sigaction(SIGSEGV, &action, &hammer.before) < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    int failed = pthread_create(&hammer.thread, NULL, hammer_on, NULL);
    if (failed) {
        sigaction(SIGSEGV, &hammer.before, NULL);
        return PyErr_Format(PyExc_RuntimeError, "no thread: %s", strerror(failed));
    }
    hammer.running = 1;
    Py_RETURN_NONE;
}

/* stray_blows() -> (stores tried, stores that did not fault) so far */
static PyObject *stray_blows(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored)) {
    return Py_BuildValue("(KK)", (unsigned long long)hammer.tried,
                         (unsigned long long)hammer.landed);
}

/* stray_rest() -> (tried, landed): stop */
static PyObject *stray_rest(PyObject *module, PyObject *ignored) {
    if (!hammer.running)
        return PyErr_Format(PyExc_RuntimeError, "no hammer is running");
    hammer.stop = 1;
    Py_BEGIN_ALLOW_THREADS
    pthread_join(hammer.thread, NULL);
    Py_END_ALLOW_THREADS
    hammer.running = 0;
    sigaction(SIGSEGV, &hammer.before, NULL);
    return stray_blows(module, ignored);
}

/* ---- many stores at random places, each fault survived */
static int store_survives(unsigned kind, void *at) {
    static const char *const kinds[] = {"byte", "atomic", "vector", "memmove", "string"};
    volatile int landed = 0;
    if (sigsetjmp(hammer.after_fault, 0) == 0) {
        hammering = 1;
        write_as(kinds[kind % (sizeof kinds / sizeof *kinds)], at);
        landed = 1;
    }
    hammering = 0;
    return landed;
}

/* stray_volley(address, bytes, count, seed) -> stores that did not fault, of `count` at random
 * places of a stretch; for a child that does nothing else. */
static PyObject *stray_volley(PyObject *Py_UNUSED(module), PyObject *args) {
    unsigned long long address, bytes, count, random;
    struct sigaction action;
    if (!PyArg_ParseTuple(args, "KKKK", &address, &bytes, &count, &random))
        return NULL;
    if (hammer.running || bytes <= 16)
        return PyErr_Format(PyExc_ValueError, "a hammer is running, or there is no room");
    expect_faults(&action);
    if (sigaction(SIGSEGV, &action, &hammer.before) < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    volatile unsigned long long landed = 0;
    for (volatile unsigned long long i = 0; i < count; i++) {
        random = random * 6364136223846793005ULL + 1442695040888963407ULL;
        unsigned long long at = address + (random >> 24) % (bytes - 16);
        landed += (unsigned)store_survives((unsigned)(random >> 17), (void *)(uintptr_t)at);
    }
    sigaction(SIGSEGV, &hammer.before, NULL);
    return PyLong_FromUnsignedLongLong(landed);
}

PyMethodDef slab_stray_methods[] = {
    {"stray_store", stray_store, METH_VARARGS, "Store a byte at an address: an attack."},
    {"stray_write", stray_write, METH_VARARGS, "Store in one of the ways of compiled code."},
    {"stray_overrun", stray_overrun, METH_VARARGS, "Store bytes from an address on: an attack."},
    {"stray_hammer", stray_hammer, METH_VARARGS, "Store to an address for ever: an attack."},
    {"stray_blows", stray_blows, METH_NOARGS, "Return (stores tried, landed) so far."},
    {"stray_volley", stray_volley, METH_VARARGS, "Store at random places; return what landed."},
    {"stray_rest", stray_rest, METH_NOARGS, "Stop the hammer; return (tried, landed)."},
    {NULL, NULL, 0, NULL},
};
