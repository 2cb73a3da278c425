/* A cache that all workers of a node would share, without locks, tried under load; see node_table.py.
 *
 * Entries lie in rings, of which each worker has one that only it writes. An index of words, eight to a bucket, says
 * where they are; all workers change it, by compare-and-swap. A reader copies an entry and then looks whether the
 * owner of the ring has meanwhile announced that it writes there. A worker that is killed leaves nothing half done: an
 * entry is in the index only once it is complete, and its successor goes on from the last position in the ring.
 *
 * `node_table WORKERS SHARED NAMES LOOKUPS ROOM KILL`: with SHARED 0 each worker has a table of its own, with its share
 * of ROOM octets. Prints: fills, wrong answers, nanoseconds of CPU per look-up, octets of memory, nanoseconds of the
 * same loop without a table. With KILL one worker is killed on the way, and another takes its place. */
#define _GNU_SOURCE
#include <math.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

typedef _Atomic uint64_t word;

enum { SLOTS = 8, SAMPLE = 1 << 22, KEY = 27, LEAST = 40, VALUE = 100, LARGEST = 1024, PATIENCE = 16 };

#define ALIGNED(size) (((size) + 15) & ~15ull)

/* A word of the index: 14 bits of the key's hash, whether it was asked for, the ring, the position in it in octets/16. */
#define VISITED (1ull << 49)
#define TAG(hash) ((((hash) >> 50) | 1) << 50)
#define WORD(hash, ring, at) (TAG(hash) | (uint64_t)(ring) << 42 | (at) >> 4)
#define RING(w) ((w) >> 42 & 127)
#define AT(w) (((w) & ((1ull << 42) - 1)) << 4)

struct entry {
    uint64_t hash;
    uint32_t size;  /* of all of it; what fills up the end of a ring has no key */
    uint16_t key_size, value_size;
    unsigned char octets[];
};

struct ring {
    word head;      /* the next entry begins here; positions only grow */
    word reserved;  /* what lies more than the ring's size before this may be written over */
    uint64_t tail;  /* the oldest entry; the owner's alone */
    char pad[40];
};

struct table {
    uint64_t buckets, room, rings;
    word *index;
    struct ring *ring;
    unsigned char *data;
};

static struct entry *place(struct table *table, unsigned ring, uint64_t at)
{
    return (struct entry *)(table->data + ring * table->room + at % table->room);
}

static word *bucket(struct table *table, uint64_t hash)
{
    return table->index + (hash >> 8) % table->buckets * SLOTS;
}

/* Whether what lies there has not been written over. */
static int whole(struct table *table, uint64_t found)
{
    uint64_t reserved = atomic_load_explicit(&table->ring[RING(found)].reserved, memory_order_relaxed);
    return AT(found) + table->room >= reserved;
}

/* Copies the value of a key to `to`; its size, or -1. */
static int get(struct table *table, uint64_t hash, const void *key, int key_size, void *to)
{
    word *words = bucket(table, hash);
    for (int slot = 0; slot < SLOTS; slot++) {
        uint64_t found = atomic_load_explicit(&words[slot], memory_order_acquire);
        if ((found ^ TAG(hash)) >> 50 || !whole(table, found))
            continue;
        struct entry *entry = place(table, RING(found), AT(found));
        int size = entry->value_size;
        int fits = entry->hash == hash && entry->key_size == key_size && size <= LARGEST &&
                   AT(found) % table->room + sizeof *entry + key_size + size <= table->room &&
                   !memcmp(entry->octets, key, key_size);
        if (fits)
            memcpy(to, entry->octets + key_size, size);
        atomic_thread_fence(memory_order_acquire);
        if (!fits || !whole(table, found))
            continue;
        if (!(found & VISITED))
            atomic_compare_exchange_strong(&words[slot], &found, found | VISITED);
        return size;
    }
    return -1;
}

/* Puts a word into the index, over one with the same tag, or an empty or lost one, or one nobody asked for. */
static void point(struct table *table, uint64_t hash, uint64_t to)
{
    word *words = bucket(table, hash);
    int chosen = -1;
    uint64_t found;
    for (int slot = 0; slot < SLOTS && chosen < 0; slot++)
        if (!((atomic_load(&words[slot]) ^ TAG(hash)) >> 50))
            chosen = slot;
    for (int slot = 0; slot < SLOTS && chosen < 0; slot++)
        if (!(found = atomic_load(&words[slot])) || !whole(table, found))
            chosen = slot;
    for (int turn = 0; turn < 2 * SLOTS && chosen < 0; turn++) {
        int slot = (hash + turn) % SLOTS;
        if (!(atomic_fetch_and(&words[slot], ~VISITED) & VISITED))
            chosen = slot;
    }
    if (chosen >= 0)
        atomic_store_explicit(&words[chosen], to, memory_order_release);
}

static word *pointer(struct table *table, uint64_t hash, uint64_t to)
{
    word *words = bucket(table, hash);
    for (int slot = 0; slot < SLOTS; slot++)
        if ((atomic_load(&words[slot]) & ~VISITED) == to)
            return &words[slot];
    return NULL;
}

/* Makes room in the owner's ring. Returns where `size` octets may be written; entries that were asked for since they
 * were written last are written once more, PATIENCE of them at most. */
static uint64_t room_for(struct table *table, unsigned number, uint32_t size)
{
    struct ring *ring = &table->ring[number];
    uint64_t head = atomic_load(&ring->head), left = table->room - head % table->room;
    int patience = PATIENCE;
    if (left < size) {  /* the end of the ring is filled up with an entry without a key */
        while (ring->tail + table->room < head + left)
            ring->tail += place(table, number, ring->tail)->size;
        atomic_store(&ring->reserved, head + left);
        atomic_thread_fence(memory_order_release);
        *place(table, number, head) = (struct entry){.size = left};
        head += left;
        atomic_store(&ring->head, head);
    }
    while (ring->tail + table->room < head + size) {
        struct entry *old = place(table, number, ring->tail);
        uint64_t was = WORD(old->hash, number, ring->tail);
        word *in = old->key_size ? pointer(table, old->hash, was) : NULL;
        uint32_t length = old->size;
        ring->tail += length;
        if (in && atomic_load(in) & VISITED && patience-- > 0 && length <= table->room - head % table->room) {
            unsigned char copy[LARGEST * 2];
            memcpy(copy, old, length);
            atomic_store(&ring->reserved, head + length);
            atomic_thread_fence(memory_order_release);
            memcpy(place(table, number, head), copy, length);
            uint64_t expected = was | VISITED;
            atomic_compare_exchange_strong(in, &expected, WORD(((struct entry *)copy)->hash, number, head));
            head += length;
            atomic_store(&ring->head, head);
            if (table->room - head % table->room < size)
                return room_for(table, number, size);
        }
    }
    return head;
}

static void put(struct table *table, unsigned number, uint64_t hash, const void *key, int key_size, const void *value,
                int value_size)
{
    struct ring *ring = &table->ring[number];
    uint32_t size = ALIGNED(sizeof(struct entry) + key_size + value_size);
    uint64_t head = room_for(table, number, size);
    struct entry *entry = place(table, number, head);
    atomic_store(&ring->reserved, head + size);
    atomic_thread_fence(memory_order_release);
    *entry = (struct entry){.hash = hash, .size = size, .key_size = key_size, .value_size = value_size};
    memcpy(entry->octets, key, key_size);
    memcpy(entry->octets + key_size, value, value_size);
    atomic_store(&ring->head, head + size);
    point(table, hash, WORD(hash, number, head));
}

static void *map(size_t size)
{
    void *found = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (found == MAP_FAILED) {
        perror("mmap");
        exit(1);
    }
    return found;
}

static struct table *made(uint64_t names, uint64_t room, unsigned rings)
{
    struct table *table = map(sizeof *table);
    uint64_t entries = room / ALIGNED(sizeof(struct entry) + KEY + VALUE);
    table->rings = rings;
    table->room = room / rings & ~15ull;
    table->buckets = (entries < names ? entries : names) * 10 / 7 / SLOTS + 1;
    table->index = map(table->buckets * SLOTS * sizeof(word));
    table->ring = map(rings * sizeof(struct ring));
    table->data = map(table->room * rings);
    return table;
}

/* Octets of a table that are in memory. */
static uint64_t in_memory(struct table *table)
{
    long page = sysconf(_SC_PAGESIZE);
    uint64_t octets = table->buckets * SLOTS * sizeof(word);
    unsigned char there;
    for (uint64_t at = 0; at < table->room * table->rings; at += page)
        if (!mincore(table->data + at, 1, &there) && there & 1)
            octets += page;
    return octets;
}

static uint64_t hashed(uint64_t number)
{
    number = (number ^ number >> 30) * 0xbf58476d1ce4e5b9ull;
    number = (number ^ number >> 27) * 0x94d049bb133111ebull;
    return number ^ number >> 31;
}

static double cpu(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

struct result {
    uint64_t fills, wrong, lookups;
    double cpu, without;
};

static void name_of(uint32_t number, unsigned char *key)
{
    memset(key, 'x', KEY);
    for (int digit = 0; digit < 8; digit++, number /= 10)
        key[8 - digit] = '0' + number % 10;
}

static void work(struct table *table, unsigned number, unsigned ring, const uint32_t *sample, uint64_t lookups,
                 struct result *result)
{
    unsigned char key[KEY], value[LARGEST];
    uint64_t at = (uint64_t)number * 999983, hash;
    uint32_t sum = 0;
    double begin = cpu();
    for (uint64_t count = 0; count < lookups; count++) {
        uint32_t name = sample[(at + count) % SAMPLE];
        name_of(name, key);
        sum += hashed(name) + key[count % KEY];
    }
    double middle = cpu();
    for (uint64_t count = 0; count < lookups; count++) {
        uint32_t name = sample[(at + count) % SAMPLE];
        name_of(name, key);
        hash = hashed(name);
        int size = get(table, hash, key, KEY, value);
        if (size < 0) {
            size = LEAST + hash % (2 * (VALUE - LEAST) + 1);
            memset(value, hash & 255, size);
            put(table, ring, hash, key, KEY, value, size);
            result->fills++;
        } else {
            sum += value[0];
            if (size != (int)(LEAST + hash % (2 * (VALUE - LEAST) + 1)))
                result->wrong++;
            for (int octet = 0; octet < size; octet++)
                if (value[octet] != (hash & 255)) {
                    result->wrong++;
                    break;
                }
        }
        result->lookups++;
    }
    result->without += middle - begin + (sum == 42 ? 1e-9 : 0);
    result->cpu += cpu() - middle;
}

static pid_t started(struct table *table, unsigned number, unsigned ring, const uint32_t *sample, uint64_t lookups,
                     struct result *result)
{
    pid_t child = fork();
    if (!child) {
        work(table, number, ring, sample, lookups, result);
        _exit(0);
    }
    return child;
}

int main(int argc, char **argv)
{
    if (argc < 7)
        return 2;
    unsigned workers = atoi(argv[1]), shared = atoi(argv[2]), killed = atoi(argv[6]);
    uint64_t names = atoll(argv[3]), lookups = atoll(argv[4]) / workers, room = atoll(argv[5]);
    uint32_t *sample = map(SAMPLE * sizeof *sample);
    struct result *results = map(workers * sizeof *results), all = {0};
    struct table *table[128];
    pid_t child[128];
    double total = 0, reached;
    uint64_t octets = 0;
    double *until = malloc(names * sizeof *until);
    srandom(1);
    for (uint64_t name = 0; name < names; name++)
        until[name] = total += 1.0 / (name + 1);
    for (uint64_t drawn = 0; drawn < SAMPLE; drawn++) {  /* popularity by Zipf's law, exponent 1 */
        uint64_t low = 0, high = names - 1;
        reached = random() / (RAND_MAX + 1.0) * total;
        while (low < high) {
            uint64_t middle = (low + high) / 2;
            if (until[middle] < reached)
                low = middle + 1;
            else
                high = middle;
        }
        sample[drawn] = low;
    }
    free(until);
    for (unsigned number = 0; number < workers; number++) {
        if (!shared || !number)
            table[number] = made(names, shared ? room : room / workers, shared ? workers : 1);
        else
            table[number] = table[0];
        child[number] = started(table[number], number, shared ? number : 0, sample, lookups, &results[number]);
    }
    if (killed) {
        while (results[0].lookups < lookups / 3)
            usleep(1000);
        kill(child[0], SIGKILL);
        waitpid(child[0], NULL, 0);
        child[0] = started(table[0], 0, 0, sample, lookups - lookups / 3, &results[0]);
    }
    for (unsigned number = 0; number < workers; number++) {
        waitpid(child[number], NULL, 0);
        all.fills += results[number].fills;
        all.wrong += results[number].wrong;
        all.lookups += results[number].lookups;
        all.cpu += results[number].cpu;
        all.without += results[number].without;
    }
    for (unsigned number = 0; number < (shared ? 1 : workers); number++)
        octets += in_memory(table[number]);
    printf("{\"fills\": %lu, \"wrong\": %lu, \"lookups\": %lu, \"ns\": %.1f, \"without_ns\": %.1f, \"octets\": %lu}\n",
           all.fills, all.wrong, all.lookups, all.cpu / all.lookups * 1e9, all.without / all.lookups * 1e9, octets);
    return all.wrong != 0;
}
