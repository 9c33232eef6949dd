/* Memory for big results, which is kept when they are gone and given to the next.

   Fresh memory costs a page fault for every 4 KiB that is written first, and the kernel's clearing it: for a result of 64 MiB
   as long as computing it, or longer (python -m fastact bench --new-memory). NumPy lets an array name who frees its memory
   (NEP 49), so this is done for what fastact itself allocates, and for nothing else. */
#ifndef FASTACT_MEMORY_H
#define FASTACT_MEMORY_H

#include <Python.h>
#include <numpy/arrayobject.h>
#include <stdlib.h>
#include <string.h>

#if defined(__linux__)
#include <sys/mman.h>

enum { KEPT = 8, HEADER = 64 };
static const size_t RECYCLED_FROM = 1 << 20;
static size_t kept_limit = 0; /* see keep_memory */

typedef struct {
    size_t bytes; /* with this header */
} header;

static struct {
    int busy;
    size_t bytes;
    int count;
    header *blocks[KEPT]; /* the one freed last at the end */
} kept;

static header *fresh_block(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    madvise(p, bytes, MADV_HUGEPAGE);
    ((header *)p)->bytes = bytes;
    return p;
}

static header *take_out(int k)
{
    header *block = kept.blocks[k];
    kept.bytes -= block->bytes;
    memmove(kept.blocks + k, kept.blocks + k + 1, (size_t)(--kept.count - k) * sizeof *kept.blocks);
    return block;
}

static void *take_memory(void *context, size_t bytes)
{
    header *block = NULL;
    (void)context;
    bytes = (bytes + HEADER + 4095) & ~(size_t)4095;
    if (!__atomic_exchange_n(&kept.busy, 1, __ATOMIC_ACQUIRE)) {
        for (int k = kept.count - 1; k >= 0 && block == NULL; k--)
            if (kept.blocks[k]->bytes >= bytes && kept.blocks[k]->bytes - bytes <= bytes / 8)
                block = take_out(k);
        __atomic_store_n(&kept.busy, 0, __ATOMIC_RELEASE);
    }
    block = block ? block : fresh_block(bytes);
    return block ? (char *)block + HEADER : NULL;
}

static void give_memory_back(void *context, void *memory, size_t bytes)
{
    header *block = (header *)((char *)memory - HEADER), *evicted[KEPT + 1];
    int count = 0;
    (void)context, (void)bytes;
    if (memory == NULL)
        return;
    if (block->bytes <= kept_limit && !__atomic_exchange_n(&kept.busy, 1, __ATOMIC_ACQUIRE)) {
        while (kept.count == KEPT || (kept.count && kept.bytes + block->bytes > kept_limit))
            evicted[count++] = take_out(0);
        kept.blocks[kept.count++] = block;
        kept.bytes += block->bytes;
        __atomic_store_n(&kept.busy, 0, __ATOMIC_RELEASE);
    } else
        evicted[count++] = block;
    while (count)
        munmap(evicted[count - 1], evicted[count - 1]->bytes), count--;
}

static void *take_clear_memory(void *context, size_t count, size_t bytes)
{
    void *memory = take_memory(context, count * bytes);
    return memory ? memset(memory, 0, count * bytes) : NULL;
}

static void *move_memory(void *context, void *memory, size_t bytes)
{
    void *new = take_memory(context, bytes);
    if (new && memory) {
        size_t before = ((header *)((char *)memory - HEADER))->bytes - HEADER;
        memcpy(new, memory, before < bytes ? before : bytes);
        give_memory_back(context, memory, before);
    }
    return new;
}

static PyDataMem_Handler recycling = {
    "fastact", 1, {NULL, take_memory, take_clear_memory, move_memory, give_memory_back}};

/* PyArray_Empty; steals the reference to descr. */
static PyObject *new_array(int ndim, npy_intp *shape, PyArray_Descr *descr)
{
    static PyObject *handler = NULL;
    PyObject *before, *array;
    size_t bytes = (size_t)PyDataType_ELSIZE(descr);
    for (int k = 0; k < ndim; k++)
        bytes *= (size_t)shape[k];
    if (bytes < RECYCLED_FROM || kept_limit == 0)
        return PyArray_Empty(ndim, shape, descr, 0);
    if (handler == NULL && (handler = PyCapsule_New(&recycling, "mem_handler", NULL)) == NULL)
        return NULL;
    before = PyDataMem_SetHandler(handler);
    if (before == NULL)
        return NULL;
    array = PyArray_Empty(ndim, shape, descr, 0);
    Py_XDECREF(PyDataMem_SetHandler(before));
    Py_DECREF(before);
    return array;
}
#else

static size_t kept_limit = 0;

static PyObject *new_array(int ndim, npy_intp *shape, PyArray_Descr *descr)
{
    return PyArray_Empty(ndim, shape, descr, 0);
}

#endif
#endif
