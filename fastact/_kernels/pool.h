/* Threads that share loops out among them.

   What OpenMP's runtimes do not offer: a call does not wait for a thread that comes late. It publishes its work, takes chunks
   itself, and at the end waits only for threads that have taken some: one that the scheduler has not woken yet costs nothing.
   (With libgomp, a call on two threads after 20 ms of rest took 3-8 ms when the second was woken on the busy core.) A second
   call at the same time runs in its own thread alone. Children after a fork start with no threads, and make their own.

   All of the pool's state is one word, `gate`: how many threads work on the current loop, and whether others may still join.
   Whoever joins does so by one atomic step, so a loop that is closed can no longer be entered, and its caller may return. */
#ifndef FASTACT_POOL_H
#define FASTACT_POOL_H

#include <stddef.h>

typedef void (*fastact_piece)(void *job, ptrdiff_t first, ptrdiff_t count);

#if (defined(__unix__) || defined(__APPLE__)) && defined(__GNUC__) && !defined(FASTACT_SERIAL)
#define FASTACT_THREADS 1

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <time.h>

enum { MAX_WORKERS = 255 };

/* How long a thread without work stays awake, in ns. While it does, a call costs 1 us more than its share of the work, later
   5-50 us: python -m bench.threads. */
enum { REST_AFTER = 50000 };

/* After how many calls in close succession threads are woken for work that alone would not be worth it. */
enum { PATIENCE = 8 };

/* Parts of the gate. */
#define JOINED 0xffffULL
#define MEMBERS(gate) ((int)((gate) >> 16 & 0x7fff))
#define OPEN (1ULL << 31)
#define CALL(gate) ((gate) >> 32)

typedef struct {
    ptrdiff_t next, end;
    char apart[48];           /* from its neighbours on their cache lines */
} block;

static struct {
    unsigned long long gate;
    fastact_piece work;
    void *job;
    ptrdiff_t chunk;
    int busy, workers, resting, watching_forks;
    int missed;               /* calls in succession that found threads resting and left them so */
    long long missed_at;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    block blocks[MAX_WORKERS + 1];
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

static inline void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static long long now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* Chunks of the block that is mine, so that the same thread meets the same memory call after call; then of the others'. */
static void take_chunks(int mine, int members)
{
    for (int k = 0; k < members; k++) {
        block *b = &pool.blocks[(mine + k) % members];
        for (;;) {
            ptrdiff_t first = __atomic_fetch_add(&b->next, pool.chunk, __ATOMIC_RELAXED), count = b->end - first;
            if (count <= 0)
                break;
            pool.work(pool.job, first, count < pool.chunk ? count : pool.chunk);
        }
    }
}

static void rest(void)
{
    pthread_mutex_lock(&pool.lock);
    __atomic_add_fetch(&pool.resting, 1, __ATOMIC_SEQ_CST);
    if (!(__atomic_load_n(&pool.gate, __ATOMIC_SEQ_CST) & OPEN))
        pthread_cond_wait(&pool.wake, &pool.lock);
    __atomic_sub_fetch(&pool.resting, 1, __ATOMIC_SEQ_CST);
    pthread_mutex_unlock(&pool.lock);
}

static void *run_worker(void *number)
{
    const int mine = (int)(ptrdiff_t)number;
    unsigned long long gate, done = 0;
    long long idle_since = now();
    for (unsigned turn = 1;; turn++) {
        gate = __atomic_load_n(&pool.gate, __ATOMIC_ACQUIRE);
        if ((gate & OPEN) && CALL(gate) != done && mine < MEMBERS(gate)) {
            if (__atomic_compare_exchange_n(&pool.gate, &gate, gate + 1, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
                done = CALL(gate);
                take_chunks(mine, MEMBERS(gate));
                __atomic_sub_fetch(&pool.gate, 1, __ATOMIC_RELEASE);
                idle_since = now();
            }
        } else if (turn % 64 == 0 && now() - idle_since > REST_AFTER) {
            rest();
            idle_since = now();
        } else
            relax();
    }
    return NULL;
}

static void start_afresh(void)
{
    pool.gate = 0;
    pool.busy = pool.workers = pool.resting = pool.missed = 0;
    pthread_mutex_init(&pool.lock, NULL);
    pthread_cond_init(&pool.wake, NULL);
}

static void hire(int workers)
{
    sigset_t every, before;
    pthread_t thread;
    if (!pool.watching_forks)
        pool.watching_forks = pthread_atfork(NULL, NULL, start_afresh) == 0;
    sigfillset(&every);
    pthread_sigmask(SIG_SETMASK, &every, &before); /* signals are for the threads that Python knows */
    while (pool.workers < workers && pthread_create(&thread, NULL, run_worker, (void *)(ptrdiff_t)(pool.workers + 1)) == 0) {
        pthread_detach(thread);
        pool.workers++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static int missed_again(void)
{
    const long long time = now();
    pool.missed = time - pool.missed_at < REST_AFTER ? pool.missed + 1 : 1;
    pool.missed_at = time;
    return pool.missed > PATIENCE;
}

static void share_out(fastact_piece work, void *job, ptrdiff_t total, ptrdiff_t chunk, int threads, int wake)
{
    ptrdiff_t part;
    threads = threads > MAX_WORKERS ? MAX_WORKERS : threads;
    if (threads < 2 || total <= chunk || __atomic_exchange_n(&pool.busy, 1, __ATOMIC_ACQUIRE)) {
        work(job, 0, total);
        return;
    }
    if (pool.workers < threads - 1)
        hire(threads - 1);
    pool.work = work;
    pool.job = job;
    pool.chunk = chunk;
    part = ((total + chunk - 1) / chunk + threads - 1) / threads * chunk;
    for (int k = 0; k < threads; k++) {
        pool.blocks[k].next = k * part < total ? k * part : total;
        pool.blocks[k].end = (k + 1) * part < total ? (k + 1) * part : total;
    }
    __atomic_store_n(&pool.gate, (CALL(pool.gate) + 1) << 32 | OPEN | (unsigned long long)threads << 16, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&pool.resting, __ATOMIC_SEQ_CST) && (wake || missed_again())) {
        pthread_mutex_lock(&pool.lock);
        pthread_cond_broadcast(&pool.wake);
        pthread_mutex_unlock(&pool.lock);
    }
    take_chunks(0, threads);
    __atomic_and_fetch(&pool.gate, ~OPEN, __ATOMIC_ACQUIRE);
    for (unsigned turn = 1; __atomic_load_n(&pool.gate, __ATOMIC_ACQUIRE) & JOINED; turn++)
        if (turn % 4096)
            relax();
        else
            sched_yield();
    __atomic_store_n(&pool.busy, 0, __ATOMIC_RELEASE);
}

#else
#define FASTACT_THREADS 0

static void share_out(fastact_piece work, void *job, ptrdiff_t total, ptrdiff_t chunk, int threads, int wake)
{
    (void)chunk, (void)threads, (void)wake;
    work(job, 0, total);
}

#endif
#endif
